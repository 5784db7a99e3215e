-- Pushes a job at its time. ARGV: key prefix, 'at' or 'in', a time or a delay in ms, queue, payload for the
-- queue, payload for the schedule. Answers the second for which it is scheduled, or 0 when it was due already.
local prefix, queue = ARGV[1], ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = tonumber(ARGV[3])
if ARGV[2] == 'in' then due = now + due end
if due <= now then
  -- Never to the schedule: a Ruby scheduler may be at work on its due part, and would trim this away.
  redis.call('RPUSH', prefix .. 'queue:' .. queue, ARGV[5])
  redis.call('SADD', prefix .. 'queues', queue)
  return 0
end
-- Rounded up: late by less than a second, but never early.
local second = string.format('%d', math.ceil(due / 1000))
redis.call('RPUSH', prefix .. 'delayed:' .. second, ARGV[6])
redis.call('SADD', prefix .. 'timestamps:' .. ARGV[6], 'delayed:' .. second)
redis.call('ZADD', KEYS[1], second, second)
return tonumber(second)
