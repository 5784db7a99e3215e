-- Pushes the jobs that are not queued already. ARGV: key prefix, life of a marker in ms, then queue and
-- payload in turn. Answers how many were pushed.
local prefix, ttl, pushed = ARGV[1], ARGV[2], 0
for i = 3, #ARGV, 2 do
  local queue, payload = ARGV[i], ARGV[i + 1]
  local list = prefix .. 'queue:' .. queue
  local marker = prefix .. 'unique:' .. queue .. ':' .. redis.sha1hex(payload)
  local fresh = redis.call('SET', marker, '1', 'PX', ttl, 'NX')
  -- A marker beside an empty queue is left over from a queue that was cleared, or drained by a client
  -- that knows nothing of markers.
  if not fresh and redis.call('EXISTS', list) == 0 then
    fresh = redis.call('SET', marker, '1', 'PX', ttl)
  end
  if fresh then
    redis.call('SADD', prefix .. 'queues', queue)
    redis.call('RPUSH', list, payload)
    pushed = pushed + 1
  end
end
return pushed
