-- Takes the jobs of processes whose lease has expired: back to the heads of their queues, or to `failed`
-- past the rescue limit. ARGV after the prefix: rescue limit, limit of `failed`, the text of failed_at, batch.
-- Answers {{slot id, queue, rescue number, 1 if given up}, ...}.
local max, limit, failed_at, batch = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local counters = prefix .. 'rescues'
local reaped = {}

local function reap(process, ticket)
  local inflight = prefix .. 'inflight:' .. process
  local id = slot_id(process, ticket)
  local held = redis.call('HGET', inflight, ticket)
  if not held:match('^%d+:') then return end
  local queue, raw = taken_apart(held)
  local counter = queue .. ':' .. redis.sha1hex(raw)
  local rescues = redis.call('HINCRBY', counters, counter, 1)
  -- A day after the last rescue, so that the counters of jobs that somebody deleted do not stay for ever.
  redis.call('EXPIRE', counters, 86400)
  local reason
  if rescues > max then
    reason = 'The worker died while it ran this job, ' .. rescues .. ' times, the last being ' .. id ..
      '; the limit is ' .. max .. ' rescues. Find what kills the worker, then retry this entry.'
  else
    local refused = put_back(queue, raw)
    if refused then
      reason = 'The worker ' .. id .. ' died while it ran this job, which could not go back to its queue: ' .. refused
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
    redis.call('HDEL', counters, counter)
  end
  redis.call('HDEL', inflight, ticket)
  redis.call('DEL', prefix .. 'worker:' .. id)
  reaped[#reaped + 1] = { id, queue, rescues, reason and 1 or 0 }
end

for _, process in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'LIMIT', 0, batch)) do
  for _, ticket in ipairs(newest_first(redis.call('HKEYS', prefix .. 'inflight:' .. process))) do
    -- The lease stays expired, and the next call goes on here.
    if #reaped == batch then return reaped end
    reap(process, ticket)
  end
  redis.call('ZREM', KEYS[1], process)
end
return reaped
