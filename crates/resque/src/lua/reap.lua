-- Takes the jobs whose lease has expired: back to the head of their queues, or to `failed` past the
-- rescue limit. ARGV: key prefix, rescue limit, limit of `failed`, the text of failed_at, batch.
-- Answers {{id, queue, rescue number, 1 if given up}, ...}.
local prefix, max, limit, failed_at, batch = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reaped = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, batch)) do
  local inflight = prefix .. 'inflight:' .. id
  local held = redis.call('HMGET', inflight, 'queue', 'raw', 'sha')
  local queue, raw, sha = held[1], held[2], held[3]
  if queue then
    local counter = prefix .. 'rescues:' .. queue .. ':' .. sha
    local rescues = redis.call('INCR', counter)
    -- A day, so that the counter of a job that somebody deleted does not stay for ever.
    redis.call('EXPIRE', counter, 86400)
    local reason
    if rescues > max then
      reason = 'The worker died while it ran this job, ' .. rescues .. ' times, the last being ' .. id ..
        '; the limit is ' .. max .. ' rescues. Find what kills the worker, then retry this entry.'
    else
      local pushed = redis.pcall('LPUSH', prefix .. 'queue:' .. queue, raw)
      if type(pushed) == 'number' then
        redis.call('SADD', prefix .. 'queues', queue)
      else
        reason = 'The worker ' .. id .. ' died while it ran this job, which could not go back to its queue: ' .. pushed.err
      end
    end
    if reason then
      local readable, job = pcall(cjson.decode, raw)
      local payload = raw
      if not (readable and type(job) == 'table' and type(job.class) == 'string') then
        payload = '{"class":"(unparseable)","args":[' .. cjson.encode(raw) .. ']}'
      end
      redis.call('RPUSH', prefix .. 'failed', table.concat({
        '{"failed_at":"', failed_at, '","payload":', payload, ',"exception":"Resque::DirtyExit","error":',
        cjson.encode(reason), ',"backtrace":[],"worker":', cjson.encode(id), ',"queue":', cjson.encode(queue), '}' }))
      redis.call('LTRIM', prefix .. 'failed', -limit, -1)
      redis.call('DEL', counter)
    end
    reaped[#reaped + 1] = { id, queue, rescues, reason and 1 or 0 }
  end
  redis.call('DEL', inflight, prefix .. 'worker:' .. id)
  redis.call('ZREM', KEYS[1], id)
end
return reaped
