-- Puts whatever these slots hold back to the head of its queue. ARGV: key prefix, slot ids.
-- Answers how many jobs went back.
local prefix, returned = ARGV[1], 0
for i = 2, #ARGV do
  local id = ARGV[i]
  local inflight = prefix .. 'inflight:' .. id
  local held = redis.call('HMGET', inflight, 'queue', 'raw')
  if held[1] then
    local pushed = redis.pcall('LPUSH', prefix .. 'queue:' .. held[1], held[2])
    -- Where the queue cannot take it, the job stays in flight, and the reaper deals with it.
    if type(pushed) == 'number' then
      redis.call('SADD', prefix .. 'queues', held[1])
      redis.call('DEL', inflight, prefix .. 'worker:' .. id)
      redis.call('ZREM', KEYS[1], id)
      returned = returned + 1
    end
  end
end
return returned
