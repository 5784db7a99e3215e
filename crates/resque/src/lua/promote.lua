-- Moves due jobs from the schedule to their queues. ARGV: key prefix, batch, limit of `failed`, the text of
-- failed_at. Answers {jobs moved, of these to `failed`, now in ms, when the next is due in ms or -1, trouble}.
local prefix, batch, limit, failed_at = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local moved, failed, trouble, skipped = 0, 0, '', 0

local function fail(raw, reason)
  local payload = '{"class":"(unparseable)","args":[' .. cjson.encode(raw) .. ']}'
  redis.call('RPUSH', prefix .. 'failed', table.concat({
    '{"failed_at":"', failed_at, '","payload":', payload, ',"exception":"Resque::NotAJob","error":',
    cjson.encode(reason), ',"backtrace":[],"worker":"scheduler:0:*","queue":""}' }))
  redis.call('LTRIM', prefix .. 'failed', -limit, -1)
  failed = failed + 1
end

local function promote(raw)
  local readable, job = pcall(cjson.decode, raw)
  if not (readable and type(job) == 'table' and type(job.queue) == 'string' and job.queue ~= '') then
    return fail(raw, 'This job was delayed and is due, but it is not JSON or names no queue. Its bytes are kept in the payload.')
  end
  -- Ruby puts the queue last when it schedules, and pushes without it: so it does when it removes a job.
  local mark = ',"queue":' .. cjson.encode(job.queue):gsub('\\/', '/') .. '}'
  local pushed = raw
  if raw:sub(-#mark) == mark then pushed = raw:sub(1, -#mark - 1) .. '}' end
  local answer = redis.pcall('RPUSH', prefix .. 'queue:' .. job.queue, pushed)
  if type(answer) == 'table' then
    return fail(raw, 'This job was delayed and is due, but its queue ' .. job.queue .. ' cannot take it: ' .. answer.err)
  end
  redis.call('SADD', prefix .. 'queues', job.queue)
end

while moved < batch do
  local second = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', math.floor(now / 1000), 'LIMIT', skipped, 1)[1]
  if not second then break end
  local list = prefix .. 'delayed:' .. second
  local left = batch - moved
  -- From the tail: a Ruby scheduler that has just read the first hundred cuts off as many when it has pushed
  -- them, so that whoever takes from the head meanwhile makes it cut off others, which it has not pushed.
  local raws = redis.pcall('LRANGE', list, -left, -1)
  if raws.err then
    trouble = 'delayed:' .. second .. ': ' .. raws.err
    skipped = skipped + 1
  else
    if #raws > 0 then redis.call('LTRIM', list, 0, -#raws - 1) end
    for _, raw in ipairs(raws) do
      promote(raw)
      -- With the namespace, as node-resque of 2014 writes it, or without.
      redis.pcall('SREM', prefix .. 'timestamps:' .. raw, 'delayed:' .. second, prefix .. 'delayed:' .. second)
    end
    moved = moved + #raws
    if redis.call('EXISTS', list) == 0 then redis.call('ZREM', KEYS[1], second) end
  end
end
local next_one = redis.call('ZRANGE', KEYS[1], skipped, skipped, 'WITHSCORES')
return { moved, failed, now, next_one[2] and math.floor(next_one[2] * 1000) or -1, trouble }
