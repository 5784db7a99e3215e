-- Queues a failed job again and notes it in its entry. ARGV: key prefix, index, the entry as it was
-- read, the entry as it shall be, queue, payload. Answers 0 when the entry is no longer there.
local failed = ARGV[1] .. 'failed'
if redis.call('LINDEX', failed, ARGV[2]) ~= ARGV[3] then return 0 end
redis.call('RPUSH', ARGV[1] .. 'queue:' .. ARGV[5], ARGV[6])
redis.call('SADD', ARGV[1] .. 'queues', ARGV[5])
redis.call('LSET', failed, ARGV[2], ARGV[4])
return 1
