-- One step of one document: decided, numbered, stored and told to all nodes, or
-- nothing of it. The rules are those of document.md sections 5.3, 7 and 9, as
-- sequencer.go has them; the steps are those of realtime.DocumentStep.
--
-- An error in the middle of a script leaves what it wrote before. So a step reads and
-- decides first, collects what it will write, and commit() writes: first what Redis
-- may refuse (memory, a number that is taken), then the rest, which it cannot.

local STATE = KEYS[1]   -- hash: "now" is the state s; "checks" and "summaries" beside it
local RSNS = KEYS[2]    -- sorted set of the writers by rsn: the first one's is the MSN
local WRITERS = KEYS[3] -- hash: id to {csn, round, summaries, nacked, rsn}
local PLACES = KEYS[4]  -- hash: id to "ORDER MODE NODE", of all clients
local OBJECTS = KEYS[5] -- hash: id to the client's description
local ENDS = KEYS[6]    -- hash: id to {type and tail of its leave, signal of its end}
local PENDING = KEYS[7] -- hash: number of a summarize op without an answer to {node, type, parts of its refusal}
local STREAM = KEYS[8]  -- the messages, with the ids NUMBER-0
local CHANNEL = KEYS[9]

local KIND, PUBLISH, TOKEN, NOW, FRESH, NODE, CLIENT = unpack(ARGV, 1, 7)
local FIRST = 8 -- of the arguments of a step

local KEPT = 1000     -- messages that are kept in any case (section 12.1)
local PORTION = 500   -- clients that leave in one script: a few milliseconds
local TRIMMED = 10000 -- messages that are dropped in one script
local LOOKED = 10000  -- writers that one look for idle ones considers
local INLINE = 16384  -- bytes of a message that are published; of a longer one its number

-- num writes a whole number below 2^53 with all its digits, which tostring does not.
-- "%d" is faster by half, and right where C's long has 64 bits.
local DIGITS = string.format('%d', 2 ^ 40) == '1099511627776' and '%d' or '%.0f'
local function num(n) return string.format(DIGITS, n) end

-- s is how the document stands. Of sn, msn and sent section 5.3 tells (sent is
-- lastSentMSN). latest and other are the last op, and the last one by anybody else
-- (7.5). n counts what was published.
local s
local packed = redis.call('HGET', STATE, 'now')
if packed then
  s = cmsgpack.unpack(packed)
else
  s = {n = 0, sn = 0, msn = 0, sent = 0, latest = '', latestSN = 0, other = '', otherSN = 0,
    summarized = 0, covered = 0, oldest = 1, arrivals = 0, rounds = 0, looked = -1, born = ''}
end

-- micros is the time in microseconds: the caller's, or that of Redis.
local micros = tonumber(NOW)
if not micros then
  local t = redis.call('TIME')
  micros = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
local MILLIS = num(math.floor(micros / 1000))

local writes = {}    -- commands that cannot fail once the first write went through
local appends = {}   -- what each new message is in the stream
local told = {}      -- what is published: the news, each with its messages and signal
local answered = {}  -- the same for the caller, where long messages are whole
local news           -- the head of the present news
local changed = false

local function write(...)
  changed = true
  writes[#writes + 1] = {...}
end

local function tell(item, published)
  changed = true
  answered[#answered + 1] = item
  told[#told + 1] = published or item
end

-- begin begins a news: of a client that came or left, or of neither.
local function begin(joined, left)
  news = 'g ' .. #joined .. ' ' .. #left .. '\n' .. joined .. left
  tell(news)
end

local function signal(from, data) tell('s ' .. #from .. ' ' .. #data .. '\n' .. from .. data) end

-- alone says that there is no writer: then the MSN is the number of the message.
local alone = false

-- message gives out the next number. author is '' for the server; quoted is it as JSON.
local function message(author, quoted, csn, rsn, kind, tail)
  s.sn = s.sn + 1
  if alone then s.msn = s.sn end
  s.sent = s.msn
  local sn, msn = num(s.sn), num(s.msn)
  local json = '{"clientId":' .. quoted .. ',"sequenceNumber":' .. sn .. ',"minimumSequenceNumber":' .. msn ..
    ',"clientSequenceNumber":' .. csn .. ',"referenceSequenceNumber":' .. rsn .. tail .. MILLIS .. '}'
  local item = 'm ' .. msn .. ' ' .. csn .. ' ' .. rsn .. ' ' .. MILLIS .. ' ' .. #author .. ' ' .. #kind .. ' ' .. #json ..
    '\n' .. author .. kind .. json
  if not news then begin('', '') end
  appends[#appends + 1] = {sn, news .. item}
  tell(item, #json > INLINE and 'r\n')
end

-- system is a message of the server (section 6).
local function system(kind, tail) message('', 'null', '-1', num(s.sn), kind, tail) end

-- lowest returns the n writers with the smallest rsn, as {id, rsn, id, rsn, …}.
local function lowest(n) return redis.call('ZRANGE', RSNS, 0, n - 1, 'WITHSCORES') end

local function seeWriters() alone = #lowest(1) == 0 end

-- leastBut returns the smallest rsn of all writers but one, nil if there are no others.
local function leastBut(id)
  local low = lowest(2)
  return tonumber(low[low[1] == id and 4 or 2])
end

-- saveWriter keeps what s knows of the writer id.
local function saveWriter(id, w)
  write('HSET', WRITERS, id, cmsgpack.pack({w.csn, w.round, w.summaries, w.nacked, w.rsn}))
  write('ZADD', RSNS, num(w.rsn), id)
end

local function loadWriter(id)
  local text = redis.call('HGET', WRITERS, id)
  if not text then return nil end
  local w = cmsgpack.unpack(text)
  return {csn = w[1], round = w[2], summaries = w[3], nacked = w[4], rsn = w[5]}
end

-- depart has clients leave, in this order (section 9): a message for each writer, and
-- the signals of their ends. The smallest rsn after each of them is found among the
-- #ids + 1 smallest of before.
local function depart(ids)
  if #ids == 0 then return end
  local low, at, gone = lowest(#ids + 1), 1, {}
  local ends = redis.call('HMGET', ENDS, unpack(ids))
  local writing = redis.call('HMGET', WRITERS, unpack(ids))
  for i, id in ipairs(ids) do
    local e = cmsgpack.unpack(ends[i])
    gone[id] = true
    begin('', id)
    if writing[i] then
      while low[at] and gone[low[at]] do at = at + 2 end
      alone = low[at] == nil
      if not alone then s.msn = tonumber(low[at + 1]) end
      system(e[1], e[2])
    end
    if e[3] then signal('', e[3]) end
  end
  write('ZREM', RSNS, unpack(ids))
  for _, key in ipairs({WRITERS, PLACES, OBJECTS, ENDS}) do write('HDEL', key, unpack(ids)) end
end

-- What a step answers, beside the document's numbers.
local absorbed, counts, more, twice = false, false, false, false
local refusal = {}
local standing = {}

-- stand tells how the document stands, once the step has been written.
local function stand()
  local marks = redis.call('HGET', STATE, 'summaries')
  return {num(s.sent), marks and cmsgpack.unpack(marks) or {}, redis.call('HGETALL', PLACES), redis.call('HGETALL', OBJECTS)}
end

local steps = {}

-- A client comes. A writer enters at the MSN, since its first op may refer to any
-- number from there on; a reader has no row (section 6).
function steps.join()
  local mode, summaries, object, kind, tail, leaveKind, leaveTail, came, went = unpack(ARGV, FIRST, FIRST + 8)
  twice = redis.call('HEXISTS', PLACES, CLIENT) == 1
  if twice then return end
  begin(CLIENT, '')
  s.arrivals = s.arrivals + 1
  if mode == 'write' then
    saveWriter(CLIENT, {csn = 0, round = s.rounds, summaries = summaries == '1', nacked = false, rsn = s.msn})
    system(kind, tail)
  end
  write('HSET', PLACES, CLIENT, num(s.arrivals) .. ' ' .. mode .. ' ' .. NODE)
  write('HSET', OBJECTS, CLIENT, object)
  write('HSET', ENDS, CLIENT, cmsgpack.pack({leaveKind, leaveTail, went ~= '' and went or nil}))
  if came ~= '' then signal('', came) end
end

function steps.leave()
  if redis.call('HEXISTS', PLACES, CLIENT) == 1 then depart({CLIENT}) end
end

-- Types that only the server may use (section 5.3, step d).
local SERVICE = {join = true, leave = true, summaryAck = true, summaryNack = true, noClient = true, control = true}

-- flawOf passes an op of the writer w through the steps a to g of section 5.3. It
-- returns what refuse() wants to know, nothing if the op is right.
local function flawOf(op, w, bound)
  if not w or w.nacked then -- a
    return '400', 'BadRequestError', 'nonexistent_client', 'Nonexistent client'
  elseif op.csn <= w.csn then -- b
    op.duplicate = true
  elseif op.csn > w.csn + 1 then -- c
    return '400', 'BadRequestError', 'gap', 'Gap detected in incoming op'
  elseif SERVICE[op.kind] then -- d
    return '400', 'BadRequestError', 'op_not_allowed', 'Op not allowed'
  elseif op.rsn > s.sn then -- e
    return '400', 'BadRequestError', 'invalid_rsn', 'Invalid RSN: current SN is ' .. num(s.sn) .. ', received ' .. op.rsnText
  elseif op.rsn ~= -1 and op.rsn < s.msn then -- f
    op.below = true
    return '400', 'BadRequestError', 'rsn_below_msn', 'Refseq ' .. op.rsnText .. ' < ' .. num(s.msn)
  elseif op.kind == 'summarize' and not w.summaries then -- g
    return '403', 'InvalidScopeError', 'summary_scope', 'Client ' .. CLIENT .. ' does not have summary permission'
  elseif op.kind == 'summarize' and op.flaw ~= '' then
    return '400', 'BadRequestError', 'malformed', op.flaw
  elseif bound > 0 and not w.summaries and op.kind ~= 'noop' and s.sn - s.summarized > bound then -- 5.5
    return '429', 'ThrottlingError', 'throttled', 'Submit a summary before inserting additional operations', '10'
  end
end

-- accept is steps i and j, for an op that is neither refused nor a duplicate.
local function accept(op, quoted)
  if op.kind == 'noop' and (op.null or s.msn <= s.sent) then -- i
    absorbed = true
    return
  end
  message(CLIENT, quoted, op.csnText, op.rsnText, op.kind, op.tail) -- j
  absorbed = false
  if op.kind == 'noop' then return end
  if s.latest ~= CLIENT then s.other, s.otherSN = s.latest, s.latestSN end
  s.latest, s.latestSN = CLIENT, s.sn
  if op.kind == 'summarize' then write('HSET', PENDING, num(s.sn), cmsgpack.pack({NODE, unpack(op.refusal)})) end
end

-- opAt reads the op whose arguments begin at an index, and returns where the next begins.
local function opAt(at)
  local csn, rsn, kind, tail, null, flaw, parts = unpack(ARGV, at, at + 6)
  local next = at + 7 + tonumber(parts)
  return {csn = tonumber(csn), csnText = csn, rsn = tonumber(rsn), rsnText = rsn, kind = kind, tail = tail, null = null == '1', flaw = flaw,
    refusal = {unpack(ARGV, at + 7, next - 1)}}, next
end

-- The ops of one submission. After a refusal the rest is not looked at: it could only
-- be gaps.
function steps.ops()
  local quoted, bound, count = ARGV[FIRST], tonumber(ARGV[FIRST + 1]), tonumber(ARGV[FIRST + 2])
  local w, others, heard = loadWriter(CLIENT), leastBut(CLIENT), false
  local function place(rsn)
    w.rsn, heard = rsn, true
    s.msn = others and math.min(others, rsn) or rsn
  end
  local op, at = nil, FIRST + 3
  for i = 0, count - 1 do
    op, at = opAt(at)
    local code, kind, reason, text, retry = flawOf(op, w, bound)
    if op.below then -- f: nothing more is taken from this writer
      w.csn, w.nacked = op.csn, true
      place(s.msn)
    end
    if code then
      refusal = {num(i), code, kind, text, reason, retry or '0'}
      break
    end
    if not op.duplicate then
      if op.rsn == -1 then -- h: before the op's own number
        op.rsn, op.rsnText = s.sn, num(s.sn)
      end
      w.csn, w.round = op.csn, s.rounds
      place(op.rsn)
      accept(op, quoted)
    end
  end
  if heard then saveWriter(CLIENT, w) end
end

-- The event noop: how far a writer has seen (7.1). It may raise the MSN.
function steps.refer()
  local rsn, w = tonumber(ARGV[FIRST]), loadWriter(CLIENT)
  if not w or w.nacked or rsn > s.sn then return end
  w.round, w.rsn = s.rounds, math.max(w.rsn, rsn)
  s.msn = math.min(w.rsn, leastBut(CLIENT) or w.rsn)
  saveWriter(CLIENT, w)
  counts, absorbed = true, true
end

-- The noop of the server, if there is news in it (7.3).
function steps.noop()
  seeWriters()
  if s.msn > s.sent then system(ARGV[FIRST], ARGV[FIRST + 1]) end
end

-- bytewise orders ids as Go does; what "<" does depends on the locale.
local function bytewise(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- silentSince returns the writers last heard before the check of a round, who have not
-- seen the last op of another client from before it.
local function silentSince(round, check)
  local _, latest, latestSN, other, otherSN = unpack(check)
  local near = redis.call('ZRANGEBYSCORE', RSNS, '-inf', '(' .. num(latestSN), 'WITHSCORES', 'LIMIT', 0, LOOKED)
  local silent = {}
  for i = 1, #near, 2 do
    local id, rsn = near[i], tonumber(near[i + 1])
    local foreign = latest == id and otherSN or latestSN
    if foreign > rsn and cmsgpack.unpack(redis.call('HGET', WRITERS, id))[2] <= round then silent[#silent + 1] = id end
  end
  table.sort(silent, bytewise)
  return silent
end

-- A look for idle writers (7.5), the first within a period. Those over a portion are
-- found again by the next one.
function steps.idle()
  local timeout, period = tonumber(ARGV[FIRST]), tonumber(ARGV[FIRST + 1])
  if s.looked >= 0 and micros - s.looked < period then return end
  s.looked, changed = micros, true
  if timeout <= 0 then return end
  local text = redis.call('HGET', STATE, 'checks')
  local checks, due, first = text and cmsgpack.unpack(text) or {}, micros - timeout, 1
  while first < #checks and checks[first + 1][1] <= due do first = first + 1 end
  local kept = {unpack(checks, first)}
  if kept[1] and kept[1][1] <= due then
    local silent = silentSince(s.rounds - #kept, kept[1])
    more = #silent > PORTION
    depart({unpack(silent, 1, math.min(#silent, PORTION))})
  end
  kept[#kept + 1] = {micros, s.latest, s.latestSN, s.other, s.otherSN}
  s.rounds = s.rounds + 1
  write('HSET', STATE, 'checks', cmsgpack.pack(kept))
end

-- The answer to a summarize op that has none yet (section 10).
function steps.answer()
  local answers, kind, tail, handle, sn, covered = unpack(ARGV, FIRST, FIRST + 5)
  if redis.call('HEXISTS', PENDING, answers) == 0 then return end
  seeWriters()
  system(kind, tail)
  write('HDEL', PENDING, answers)
  if handle == '' then return end
  local text = redis.call('HGET', STATE, 'summaries')
  local before = text and cmsgpack.unpack(text) or {'', '0', '0'}
  s.summarized, s.covered = tonumber(sn), tonumber(before[3])
  write('HSET', STATE, 'summaries', cmsgpack.pack({handle, sn, covered, before[1], before[2], before[3]}))
end

-- pairsOf reads what HGETALL answers.
local function pairsOf(flat)
  local i = -1
  return function()
    i = i + 2
    return flat[i], flat[i + 1]
  end
end

-- ofNodes returns the clients of nodes in the order of their coming.
local function ofNodes(nodes)
  local found, order = {}, {}
  for id, place in pairsOf(redis.call('HGETALL', PLACES)) do
    local came, node = string.match(place, '^(%d+) %a+ (.*)$')
    if nodes[node] then
      found[#found + 1], order[id] = id, tonumber(came)
    end
  end
  table.sort(found, function(a, b) return order[a] < order[b] end)
  return found
end

-- openOf returns the summarize ops of nodes that have no answer, ascending.
local function openOf(nodes)
  local open, by = {}, {}
  for sn, text in pairsOf(redis.call('HGETALL', PENDING)) do
    local op = cmsgpack.unpack(text)
    if nodes[op[1]] then
      open[#open + 1], by[sn] = sn, op
    end
  end
  table.sort(open, function(a, b) return tonumber(a) < tonumber(b) end)
  return open, by
end

-- The end of nodes (section 9): their clients leave, and then the summaries are refused
-- that they will not answer. In portions: the caller calls again while there is more.
function steps.bury()
  local nodes = {}
  for i = FIRST, #ARGV do nodes[ARGV[i]] = true end
  seeWriters()
  local ids = ofNodes(nodes)
  more = #ids > PORTION
  depart({unpack(ids, 1, math.min(#ids, PORTION))})
  if more then return end
  local open, by = openOf(nodes)
  more = #open > PORTION
  if #open > 0 then begin('', '') end
  for i = 1, math.min(#open, PORTION) do
    system(by[open[i]][2], table.concat(by[open[i]], open[i], 3))
    write('HDEL', PENDING, open[i])
  end
end

-- A signal gets no number (section 8), but its place.
function steps.signal()
  begin('', '')
  signal(CLIENT, ARGV[FIRST])
end

-- How the document stands, or its numbers, and nothing else.
function steps.stand() end
function steps.head() end

-- clear begins a document. If anything of an earlier one is left whose state is gone, it
-- goes too: a stream with messages would refuse the numbers from 1 on.
local function clear()
  s.born = FRESH
  if redis.call('EXISTS', unpack(KEYS, 1, 8)) > 0 then redis.call('DEL', unpack(KEYS, 1, 8)) end
end

-- trim drops messages that nobody can ask for any more: older than the newest KEPT, and
-- part of the last but one acknowledged summary (section 12.1).
local function trim()
  local below = math.min(s.covered, s.sn - KEPT) + 1
  if s.covered <= 0 or below <= s.oldest then return end
  s.oldest = math.min(below, s.oldest + TRIMMED)
  write('XTRIM', STREAM, 'MINID', '=', num(s.oldest) .. '-0')
end

-- commit writes the step and publishes it: one notice, whose number is the next one.
-- The first write is the one that Redis may refuse.
local function commit(after)
  if s.born == '' then clear() end
  if #appends > 0 then trim() end
  for _, a in ipairs(appends) do redis.call('XADD', STREAM, a[1] .. '-0', 'm', a[2], 't', TOKEN) end
  if #told > 0 then s.n = s.n + 1 end
  redis.call('HSET', STATE, 'now', cmsgpack.pack(s))
  for _, w in ipairs(writes) do redis.call(unpack(w)) end
  if #told == 0 then return '' end
  local head = s.born .. ' ' .. num(s.n) .. ' ' .. num(after) .. ' ' .. TOKEN .. '\n'
  redis.call(PUBLISH, CHANNEL, head .. table.concat(told))
  return head .. table.concat(answered)
end

local before, notice = s.sn, ''
steps[KIND]()
if changed then notice = commit(before) end
if KIND == 'join' or KIND == 'stand' then standing = stand() end
local flags = (absorbed and 'a' or '') .. (counts and 'c' or '') .. (more and 'm' or '') .. (twice and 't' or '')
local born = s.born == '' and '-' or s.born
return {born .. ' ' .. num(s.n) .. ' ' .. num(s.sn) .. ' ' .. num(s.msn) .. ' ' .. flags, notice, refusal, standing}
