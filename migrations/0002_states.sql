-- The state machine. The same table stands in Rust (crates/core/src/state.rs); a test compares the two.
CREATE TABLE states (
  name   text PRIMARY KEY,
  kind   text NOT NULL CHECK (kind IN ('idle', 'working')),
  -- The step of a working state: the name of its queue and of its Resque class.
  step   text UNIQUE,
  worker text,
  place  int NOT NULL UNIQUE,
  CHECK ((kind = 'working') = (step IS NOT NULL AND worker IS NOT NULL))
);

INSERT INTO states (place, name, kind, step, worker) VALUES
  (1,  'new',        'idle',    NULL,                   NULL),
  (2,  'instance',   'working', 'initializeEc2Instance', 'instance-worker'),
  (3,  'key',        'working', 'retrieveApiKey',        'ssh-worker'),
  (4,  'start',      'working', 'startGatewayd',         'ssh-worker'),
  (5,  'wallet',     'working', 'setColdWallet',         'wallet-worker'),
  (6,  'live',       'idle',    NULL,                   NULL),
  (7,  'stop',       'working', 'stopGatewayd',          'ssh-worker'),
  (8,  'stopped',    'idle',    NULL,                   NULL),
  (9,  'update',     'working', 'updateGatewayd',        'ssh-worker'),
  (10, 'terminate',  'working', 'terminateEc2Instance',  'instance-worker'),
  (11, 'terminated', 'idle',    NULL,                   NULL);

CREATE TABLE transitions (
  from_state text NOT NULL REFERENCES states (name),
  to_state   text NOT NULL REFERENCES states (name),
  -- Who may make this move: an external write, or the worker at the end of its step.
  made_by    text NOT NULL CHECK (made_by IN ('external', 'worker')),
  PRIMARY KEY (from_state, to_state)
);

INSERT INTO transitions (from_state, to_state, made_by) VALUES
  ('new',        'instance',   'external'),
  ('instance',   'key',        'worker'),
  ('key',        'start',      'worker'),
  ('start',      'wallet',     'worker'),
  ('wallet',     'live',       'worker'),
  ('live',       'stop',       'external'),
  ('live',       'update',     'external'),
  ('stop',       'stopped',    'worker'),
  ('stopped',    'start',      'external'),
  ('stopped',    'update',     'external'),
  ('update',     'stopped',    'worker'),
  ('terminate',  'terminated', 'worker'),
  ('terminated', 'instance',   'external'),
  -- Any row may be ended.
  ('new',        'terminate',  'external'),
  ('instance',   'terminate',  'external'),
  ('key',        'terminate',  'external'),
  ('start',      'terminate',  'external'),
  ('wallet',     'terminate',  'external'),
  ('live',       'terminate',  'external'),
  ('stop',       'terminate',  'external'),
  ('stopped',    'terminate',  'external'),
  ('update',     'terminate',  'external');

GRANT SELECT ON states, transitions TO gatewayzen_app, gatewayzen_service, gatewayzen_operator, gatewayzen_engine;
