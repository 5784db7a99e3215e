-- Renews the leases of the slots that still hold a job. ARGV: key prefix, lease in ms, slot ids.
local prefix, lease = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local expiry = time[1] * 1000 + math.floor(time[2] / 1000) + lease
local renewed = 0
for i = 3, #ARGV do
  if redis.call('EXISTS', prefix .. 'inflight:' .. ARGV[i]) == 1 then
    redis.call('ZADD', KEYS[1], expiry, ARGV[i])
    renewed = renewed + 1
  end
end
return renewed
