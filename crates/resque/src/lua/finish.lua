-- Ends a job. ARGV: key prefix, slot id, limit of `failed`, the failed entry or nothing.
-- Answers 1, or 0 when the lease was lost: then the job belongs to another, and nothing is counted.
local prefix, id, limit, entry = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local inflight = prefix .. 'inflight:' .. id
local held = redis.call('HMGET', inflight, 'queue', 'sha')
if not held[1] then return 0 end
redis.call('DEL', inflight, prefix .. 'worker:' .. id, prefix .. 'rescues:' .. held[1] .. ':' .. held[2])
redis.call('ZREM', KEYS[1], id)
redis.call('INCR', prefix .. 'stat:processed')
redis.call('INCR', prefix .. 'stat:processed:' .. id)
if entry ~= '' then
  redis.call('RPUSH', prefix .. 'failed', entry)
  redis.call('LTRIM', prefix .. 'failed', -limit, -1)
  redis.call('INCR', prefix .. 'stat:failed')
  redis.call('INCR', prefix .. 'stat:failed:' .. id)
end
return 1
