-- Domain stream: resources.md, section 4. Whether a stream is closed is read from its attempt.
--
-- Keys, of execution id and attempt index (4 bytes): `vf` (stream) the frames under the contract's ids, fields as the
-- contract's decoder names them; `vs` (zset) the seqs of those of them that have one: seq, entry id as text. Of the
-- execution id: `vm` (hash) index -> packed { 1, ms and seq of the last id, frames ever, payload bytes ever, bytes
-- retained, last_seq or false, trimmed_to as text or false }, from the first frame on.

local F = F
local NONE = 9007199254740992

local MAX = 9007199254740991
-- What a stream keeps and a page holds of payload, and what a frame counts at least towards the first.
local RETAINED_BYTES, PAGE_BYTES, FRAME_BYTES = 67108864, 4194304, 1024
-- Frames read at a time: 64 of the greatest ones fill a page.
local CHUNK = 64

local function entry_id(ms, seq)
	return string.format('%d-%d', ms, seq)
end

local function suffix(id, index)
	return id .. struct.pack('>I4', index)
end

-- What is known of a stream beside its frames, and as it is packed; nil before the first frame.
local function meta_of(c, id, index)
	local packed = redis.call('HGET', c.p .. 'vm' .. id, F.digits(index))
	if not packed then
		return nil, false
	end
	local ok, m = pcall(cmsgpack.unpack, packed)
	if not ok or type(m) ~= 'table' or m[1] ~= 1 or #m ~= 8 then
		F.corrupt('stream_meta', id)
	end
	return m, packed
end

-- The value of a field of an entry, or false.
local function field(fields, name)
	for i = 1, #fields, 2 do
		if fields[i] == name then
			return fields[i + 1]
		end
	end
	return false
end

local function weight(payload)
	return math.max(FRAME_BYTES, #payload)
end

-- Chooses the oldest frames that must go, so that `frames` of together `bytes` become few enough. Returns their ids and
-- what is left. Looks at one frame, then at twice as many, and so on: their payloads are large or many.
local function surplus(key, frames, bytes, maxlen)
	local gone, from, ask = {}, '-', 1
	while frames > maxlen or bytes > RETAINED_BYTES do
		local oldest = redis.call('XRANGE', key, from, '+', 'COUNT', ask)
		if #oldest == 0 then
			F.corrupt('stream_meta')
		end
		for i = 1, #oldest do
			if frames <= maxlen and bytes <= RETAINED_BYTES then
				break
			end
			local payload = field(oldest[i][2], 'payload')
			if not payload then
				F.corrupt('stream_frame')
			end
			gone[#gone + 1] = oldest[i][1]
			frames = frames - 1
			bytes = bytes - weight(payload)
		end
		from = '(' .. oldest[#oldest][1]
		ask = math.min(ask * 2, CHUNK)
	end
	return gone, frames, bytes
end

-- ff_append_frame. a: 2 id, 3 4 5 fence, 6 type, 7 encoding or false, 8 correlation id or false, 9 seq or false.
-- args[2]: the payload. Reply: { 'appended', ms, seq }. Nothing of the execution's record changes.
local function append_frame(keys, args)
	local c, a = F.open(keys, args)
	local x = F.find(c, a[2])
	if not x then
		return { '!', 'execution_not_found' }
	end
	local refused = F.fence(c, x, a[3], a[4], a[5])
	if refused then
		return refused
	end
	local call, p, payload = redis.call, c.p, args[2]
	local index = x.attempts - 1
	local key, seqs = p .. 'vf' .. suffix(x.id, index), p .. 'vs' .. suffix(x.id, index)
	local m = meta_of(c, x.id, index) or { 1, 0, 0, 0, 0, 0, false, false }
	local seq, last_seq = a[9], m[7]
	if seq and last_seq and seq <= last_seq then
		local at = call('ZRANGEBYSCORE', seqs, seq, seq)[1]
		local entry = at and call('XRANGE', key, at, at)[1]
		local fields = entry and entry[2]
		if
			not fields or field(fields, 'frame_type') ~= a[6] or field(fields, 'payload') ~= payload
			or field(fields, 'encoding') ~= a[7] or field(fields, 'correlation_id') ~= a[8]
		then
			return { '!', 'frame_seq_conflict', last_seq }
		end
		local ms, n = string.match(at, '^(%d+)-(%d+)$')
		return { 'appended', tonumber(ms), tonumber(n) }
	end

	local ms, n = c.now, 0
	if ms <= m[2] then
		ms, n = m[2], m[3] + 1
	end
	local gone, frames, bytes = surplus(key, call('XLEN', key) + 1, m[6] + weight(payload), F.frozen(x)[8])
	local id = entry_id(ms, n)
	local fields = { 'frame_type', a[6], 'payload', payload }
	local function add(name, value)
		if value then
			fields[#fields + 1] = name
			fields[#fields + 1] = value
		end
	end
	add('encoding', a[7])
	add('correlation_id', a[8])
	add('seq', seq and F.digits(seq))
	F.sure('XADD', key, 'MAXLEN', frames, id, unpack(fields))
	if #gone > 0 and last_seq then
		for i = 1, #gone, 512 do
			F.sure('ZREM', seqs, unpack(gone, i, math.min(i + 511, #gone)))
		end
	end
	if seq then
		F.sure('ZADD', seqs, F.digits(seq), id)
	end
	F.sure('HSET', p .. 'vm' .. x.id, F.digits(index), cmsgpack.pack({
		1, ms, n, m[4] + 1, math.min(m[5] + #payload, MAX), bytes, seq or last_seq, gone[#gone] or m[8],
	}))
	return { 'appended', ms, n }
end

-- When and why the attempt of this index ended: an instant or false, and the cause's number; nil if none has started.
local function ended(c, x, index)
	if index >= x.attempts then
		return nil
	end
	if index == x.attempts - 1 then
		return F.opt(x.aended), x.acause
	end
	local packed = redis.call('HGET', c.p .. 'a' .. x.id, F.digits(index))
	local ok, attempt = pcall(cmsgpack.unpack, packed or '')
	if not ok or type(attempt) ~= 'table' or not attempt[15] or attempt[15] == NONE then
		F.corrupt('attempt', x.id)
	end
	return attempt[15], attempt[16]
end

-- ff_read_attempt_stream. a: 2 id, 3 index, 4 first and 5 last id as texts, both inclusive, 6 limit.
-- Reply: { 'frames', ended_at or false, cause, packed metadata or false, frames stored, { { id, { name, value, ... } },
-- ... }, more }.
local function read_attempt_stream(keys, args)
	local c, a = F.open(keys, args)
	local x = F.find(c, a[2])
	if not x then
		return { '!', 'execution_not_found' }
	end
	local index, limit = a[3], a[6]
	local at, cause = ended(c, x, index)
	if at == nil then
		return { '!', 'attempt_not_found' }
	end
	local call, key = redis.call, c.p .. 'vf' .. suffix(x.id, index)
	local _, packed = meta_of(c, x.id, index)
	local page, n, bytes, more = {}, 0, 0, false
	local from, to = a[4], a[5]
	local asking = packed
	while asking do
		-- One more than fits tells whether any remains.
		local ask = math.min(CHUNK, limit + 1 - n)
		local got = call('XRANGE', key, from, to, 'COUNT', ask)
		asking = #got == ask
		for i = 1, #got do
			local size = #(field(got[i][2], 'payload') or '')
			if n == limit or (n > 0 and bytes + size > PAGE_BYTES) then
				more, asking = true, false
				break
			end
			n = n + 1
			page[n] = got[i]
			bytes = bytes + size
		end
		if asking then
			from = '(' .. got[#got][1]
		end
	end
	return { 'frames', at, cause, packed, call('XLEN', key), page, more and 1 or 0 }
end

-- ff_stream_marks, internal, for waiting tails. a: 2 { id, index, ... }.
-- Reply: { 'marks', { mark, ... } }: a mark differs from an earlier one when a frame came or the stream closed. It is
-- one byte ('o' open, 'c' closed, '-' no such stream, which only a read explains) and the packed metadata.
local function stream_marks(keys, args)
	local c, a = F.open(keys, args)
	local asked, marks = a[2], {}
	for i = 1, #asked, 2 do
		local id, index = asked[i], asked[i + 1]
		local x = F.look(c, id)
		local mark = '-'
		if x and index < x.attempts then
			local open = index == x.attempts - 1 and x.aended == NONE
			mark = (open and 'o' or 'c') .. (redis.call('HGET', c.p .. 'vm' .. id, F.digits(index)) or '')
		end
		marks[#marks + 1] = mark
	end
	return { 'marks', marks }
end

-- How many streams of x a purge removes: those that ever had a frame.
function F.stream_records(c, x)
	return redis.call('HLEN', c.p .. 'vm' .. x.id)
end

-- Removes the streams of an execution.
function F.unlink_streams(c, id)
	local call, p = redis.call, c.p
	local indexes = call('HKEYS', p .. 'vm' .. id)
	for i = 1, #indexes do
		local rest = suffix(id, tonumber(indexes[i]))
		F.sure('UNLINK', p .. 'vf' .. rest, p .. 'vs' .. rest)
	end
	F.sure('UNLINK', p .. 'vm' .. id)
end

redis.register_function('ff_append_frame', F.settled(append_frame))
redis.register_function {
	function_name = 'ff_read_attempt_stream', callback = read_attempt_stream, flags = { 'no-writes' },
}
redis.register_function { function_name = 'ff_stream_marks', callback = stream_marks, flags = { 'no-writes' } }
