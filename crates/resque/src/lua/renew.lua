-- Renews the lease of a process that holds jobs. ARGV after the process: lease in ms.
if redis.call('EXISTS', prefix .. 'inflight:' .. ARGV[2]) == 0 then return 0 end
redis.call('ZADD', KEYS[1], now_ms() + ARGV[3], ARGV[2])
return 1
