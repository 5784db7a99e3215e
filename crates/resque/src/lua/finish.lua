-- Ends a job. ARGV: key prefix, slot id, SHA-1 of the job, limit of `failed`, the failed entry or nothing.
-- Answers 1, or 0 when the lease was lost: then the job belongs to another, and nothing is counted.
local prefix, id, sha, limit, entry = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local inflight = prefix .. 'inflight:' .. id
local held = redis.call('HMGET', inflight, 'queue', 'sha')
-- Another job may be here when this call is a repetition, and a claim that was long on its way came in
-- between: ending that one would lose it.
if not held[1] or held[2] ~= sha then return 0 end
redis.call('DEL', inflight, prefix .. 'worker:' .. id, prefix .. 'rescues:' .. held[1] .. ':' .. sha)
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
