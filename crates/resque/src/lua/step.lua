-- One step of a worker: ends jobs, shows what the slots are doing, takes jobs. After the prefix and the
-- process id ARGV has the lease in ms, the limit of `failed`, the numbers of elements of each list, and the lists:
--   ended:  tickets of jobs that ended well
--   noted:  ticket, field of `rescues` or nothing, failed entry or nothing, of the other ends
--   shown:  ticket, slot id, text of `worker:ID`
--   hidden: ids of slots that were shown and whose job ended
--   known:  '1' and the tickets of all jobs that run; empty when nothing can have been lost on the way
--   free:   tickets for jobs to be taken
--   queues: where to take them, in order
-- Answers {paused, more, trouble, ends that did not count, jobs put back, {{queue, {raw bytes, ...}}, ...},
-- {{place among the jobs taken, field of `rescues`, rescues}, ...}}.
local process, lease, limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local inflight = prefix .. 'inflight:' .. process
local rescues = prefix .. 'rescues'
local place = 12
local function list(number)
  local from, to = place, place + tonumber(ARGV[number]) - 1
  place = to + 1
  return from, to
end

-- A ticket that is gone says that the lease was lost: the job belongs to another, and nothing is counted.
-- Or this is a repetition of a call whose answer was lost; it changes nothing either.
local counted, failures, ends = 0, 0, 0
local from, to = list(5)
if to >= from then
  ends = to - from + 1
  counted = redis.call('HDEL', inflight, unpack(ARGV, from, to))
end
from, to = list(6)
for i = from, to, 3 do
  ends = ends + 1
  if redis.call('HEXISTS', inflight, ARGV[i]) == 1 then
    -- First the entry: if `failed` cannot take it the call fails here, and the job is still in hand.
    if ARGV[i + 2] ~= '' then
      redis.call('RPUSH', prefix .. 'failed', ARGV[i + 2])
      failures = failures + 1
    end
    if ARGV[i + 1] ~= '' then redis.call('HDEL', rescues, ARGV[i + 1]) end
    redis.call('HDEL', inflight, ARGV[i])
    counted = counted + 1
  end
end
if counted > 0 then redis.pcall('INCRBY', prefix .. 'stat:processed', counted) end
if failures > 0 then
  redis.call('LTRIM', prefix .. 'failed', -limit, -1)
  redis.pcall('INCRBY', prefix .. 'stat:failed', failures)
end

from, to = list(7)
for i = from, to, 3 do
  if redis.call('HEXISTS', inflight, ARGV[i]) == 1 then
    redis.call('SET', prefix .. 'worker:' .. ARGV[i + 1], ARGV[i + 2])
  end
end
from, to = list(8)
for i = from, to do redis.call('DEL', prefix .. 'worker:' .. ARGV[i]) end

-- What an earlier step took, and whose answer never arrived, runs nowhere.
local returned = 0
from, to = list(9)
if to >= from then
  local known = {}
  for i = from + 1, to do known[ARGV[i]] = true end
  for _, ticket in ipairs(newest_first(redis.call('HKEYS', inflight))) do
    if not known[ticket] and give_back(process, ticket) then returned = returned + 1 end
  end
end

local ticket, last = list(10)
local first_queue, last_queue = list(11)
if ticket > last then return { 0, 0, '', ends - counted, returned, {}, {} } end
local paused = redis.pcall('GET', prefix .. 'pause-all-workers')
if type(paused) == 'string' and paused:match('^%s*(.-)%s*$'):lower() == 'true' then
  return { 1, 0, '', ends - counted, returned, {}, {} }
end

local names, seen = {}, {}
local function add(name)
  if not seen[name] then
    seen[name] = true
    names[#names + 1] = name
  end
end
for i = first_queue, last_queue do
  if ARGV[i] == '*' then
    local all = redis.call('SMEMBERS', prefix .. 'queues')
    table.sort(all)
    for _, name in ipairs(all) do add(name) end
  else
    add(ARGV[i])
  end
end

-- An answer of more than this is cut short: the rest comes with the next.
local bytes_limit = 4 * 1024 * 1024
local any_rescues = redis.call('EXISTS', rescues) == 1
local taken, rescued, bytes, largest, total, trouble = {}, {}, 0, 0, 0, ''
for _, name in ipairs(names) do
  local key, head, raws = prefix .. 'queue:' .. name, #name .. ':' .. name, {}
  local unique = redis.call('SISMEMBER', prefix .. 'unique', name) == 1
  while ticket <= last and bytes <= bytes_limit do
    -- How large they are is known only when they are here: one, and then as many as should fit.
    local want = 1
    if largest > 0 then want = math.max(1, math.min(last - ticket + 1, math.floor((bytes_limit - bytes) / largest))) end
    local popped = redis.pcall('LPOP', key, want)
    if not popped then break end
    if popped.err then
      trouble = 'queue ' .. name .. ': ' .. popped.err
      break
    end
    local fields, markers = {}, {}
    for i, raw in ipairs(popped) do
      fields[2 * i - 1], fields[2 * i] = ARGV[ticket], head .. raw
      raws[#raws + 1] = raw
      ticket, total, bytes = ticket + 1, total + 1, bytes + #raw
      if #raw > largest then largest = #raw end
      if unique or any_rescues then
        local sha = redis.sha1hex(raw)
        markers[i] = prefix .. 'unique:' .. name .. ':' .. sha
        local count = any_rescues and redis.call('HGET', rescues, name .. ':' .. sha)
        if count then rescued[#rescued + 1] = { total, name .. ':' .. sha, tonumber(count) } end
      end
    end
    redis.call('HSET', inflight, unpack(fields))
    if unique then redis.call('DEL', unpack(markers)) end
    if #popped < want then break end
  end
  if #raws > 0 then taken[#taken + 1] = { name, raws } end
end
if total > 0 then redis.call('ZADD', KEYS[1], now_ms() + lease, process) end
local more = (ticket > last or bytes > bytes_limit) and 1 or 0
return { 0, more, trouble, ends - counted, returned, taken, rescued }
