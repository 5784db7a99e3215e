-- Pushes the jobs that are not queued already. ARGV: key prefix, how long a marker is believed in ms, then
-- queue and payload in turn. Answers for each whether it was pushed: 1 or 0.
local prefix, believed, pushed = ARGV[1], tonumber(ARGV[2]), {}
-- A marker outlives the time for which it is believed, so that after it the queue itself is asked: a backlog
-- that nobody takes does not grow by one more push each time, and a queue that was cleared is filled again.
local kept = believed * 10
-- A search takes time in proportion to the queue: in a longer one a marker is believed until it is gone.
local searched = 10000
for i = 3, #ARGV, 2 do
  local queue, payload = ARGV[i], ARGV[i + 1]
  local list = prefix .. 'queue:' .. queue
  local marker = prefix .. 'unique:' .. queue .. ':' .. redis.sha1hex(payload)
  local left = redis.call('PTTL', marker)
  local queued = left > 0
  if queued and redis.call('EXISTS', list) == 0 then
    -- Left over from a queue that was cleared, or drained by a client that knows nothing of markers.
    queued = false
  elseif queued and left < kept - believed and redis.call('LLEN', list) <= searched then
    queued = redis.call('LPOS', list, payload) ~= false
    if queued then redis.call('PEXPIRE', marker, kept) end
  end
  if not queued then
    redis.call('SET', marker, '1', 'PX', kept)
    redis.call('SADD', prefix .. 'queues', queue)
    -- Workers look for the markers of these queues only.
    redis.call('SADD', prefix .. 'unique', queue)
    redis.call('RPUSH', list, payload)
  end
  pushed[#pushed + 1] = queued and 0 or 1
end
return pushed
