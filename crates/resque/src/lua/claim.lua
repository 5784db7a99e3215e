-- Takes jobs for free slots. ARGV: key prefix, lease in ms, the text of run_at, "1" to look into every
-- slot for a job that an earlier claim took and whose answer was lost, the number of queues, the queues
-- in order, the slot ids.
-- Answers {paused, more, trouble, {{slot number from 1, queue, raw bytes, their SHA-1, rescues}, ...}}.
local prefix, lease, run_at, recover, queues = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1', tonumber(ARGV[5])
local limit = 4 * 1024 * 1024

local paused = redis.pcall('GET', prefix .. 'pause-all-workers')
if type(paused) == 'string' and paused:match('^%s*(.-)%s*$'):lower() == 'true' then
  return { 1, 0, '', {} }
end

local names, seen = {}, {}
local function add(name)
  if not seen[name] then
    seen[name] = true
    names[#names + 1] = name
  end
end
for i = 6, 5 + queues do
  if ARGV[i] == '*' then
    local all = redis.call('SMEMBERS', prefix .. 'queues')
    table.sort(all)
    for _, name in ipairs(all) do add(name) end
  else
    add(ARGV[i])
  end
end

local time = redis.call('TIME')
local expiry = time[1] * 1000 + math.floor(time[2] / 1000) + lease
local jobs, bytes, at, more, trouble = {}, 0, 1, 0, ''

for i = 6 + queues, #ARGV do
  if at > #names and not recover then break end
  if bytes > limit then
    more = 1
    break
  end
  local id = ARGV[i]
  local inflight = prefix .. 'inflight:' .. id
  -- A job already in flight here was taken by a claim whose answer never arrived: it is handed out
  -- again, and never overwritten, which would lose it.
  local held = redis.call('HMGET', inflight, 'queue', 'raw', 'sha')
  local queue, raw, sha = held[1], held[2], held[3]
  if not queue then
    while at <= #names and not queue do
      local popped = redis.pcall('LPOP', prefix .. 'queue:' .. names[at])
      if type(popped) == 'table' and popped.err then
        trouble = 'queue ' .. names[at] .. ': ' .. popped.err
        at = at + 1
      elseif popped then
        queue, raw = names[at], popped
      else
        at = at + 1
      end
    end
    if queue then
      sha = redis.sha1hex(raw)
      redis.call('HSET', inflight, 'queue', queue, 'raw', raw, 'sha', sha)
      redis.call('DEL', prefix .. 'unique:' .. queue .. ':' .. sha)
    end
  end
  if queue then
    redis.call('ZADD', KEYS[1], expiry, id)
    local readable, job = pcall(cjson.decode, raw)
    local payload = raw
    -- Other clients' pages fail on a worker entry that is not JSON.
    if not (readable and type(job) == 'table' and type(job.class) == 'string') then
      payload = '{"class":"(unparseable)","args":[]}'
    end
    redis.call('SET', prefix .. 'worker:' .. id, table.concat({
      '{"queue":', cjson.encode(queue), ',"run_at":"', run_at, '","worker":',
      cjson.encode(id:match('^[^:]*:[^:]*')), ',"payload":', payload, '}' }))
    local rescues = tonumber(redis.call('GET', prefix .. 'rescues:' .. queue .. ':' .. sha) or 0)
    jobs[#jobs + 1] = { i - 5 - queues, queue, raw, sha, rescues }
    bytes = bytes + #raw
  end
end
return { 0, more, trouble, jobs }
