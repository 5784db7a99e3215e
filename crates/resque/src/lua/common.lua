-- Goes before the scripts that deal with jobs in hand. KEYS[1] is `leases`; ARGV begins with the key prefix
-- and, where one process is concerned, its id.
--
-- `inflight:PROCESS` has a field for each job in hand. Its name is a ticket, `<slot>-<number>`, of which no
-- two are alike in the life of a process; its value is `<length of the queue's name>:<queue><raw bytes>`.
local prefix = ARGV[1]

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function taken_apart(held)
  local length, from = held:match('^(%d+):()')
  local to = from + tonumber(length)
  return held:sub(from, to - 1), held:sub(to)
end

-- The id of the slot that holds a ticket, for a process id `host:pid:queues`.
local function slot_id(process, ticket)
  local head, tail = process:match('^([^:]*:[^:]*)(:.*)$')
  return head .. '+' .. ticket:match('^%d+') .. tail
end

-- Newest first: jobs that are put back one by one to the head of a queue then stand there in their order. Fields of
-- another form, which somebody else wrote, are left alone: they must not keep the rest from being rescued.
local function newest_first(fields)
  local tickets = {}
  for _, field in ipairs(fields) do
    if field:match('^%d+%-%d+$') then tickets[#tickets + 1] = field end
  end
  table.sort(tickets, function(a, b) return tonumber(a:match('%d+$')) > tonumber(b:match('%d+$')) end)
  return tickets
end

local function put_back(queue, raw)
  local pushed = redis.pcall('LPUSH', prefix .. 'queue:' .. queue, raw)
  if type(pushed) == 'table' then return pushed.err end
  redis.call('SADD', prefix .. 'queues', queue)
end

-- Puts a job in hand back to the head of its queue. False where the queue cannot take it: then it stays
-- in hand, and the reaper deals with it.
local function give_back(process, ticket)
  local inflight = prefix .. 'inflight:' .. process
  local held = redis.call('HGET', inflight, ticket)
  if not held or put_back(taken_apart(held)) then return false end
  redis.call('HDEL', inflight, ticket)
  redis.call('DEL', prefix .. 'worker:' .. slot_id(process, ticket))
  return true
end
