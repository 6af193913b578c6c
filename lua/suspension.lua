-- Domain suspension: suspension.md, sections 3 and 4.
--
-- Keys under an execution: `s<id>` the present or last suspension, a hash as the contract's decoder reads it;
-- `sw<id>` waitpoint id -> packed waitpoint; `so<id>` the ids of those that are not closed; `sg<id>` seq -> packed
-- signal, `sp<id>` seq -> payload (unless empty), of the suspension and of pending waitpoints; `sm<id>` the seqs of its
-- matched signals, in order; `sd<id>` signal id -> packed dedup entry; `sk<id>` waitpoint, source and idempotency key
-- -> signal id.

local F = F
local NONE = 9007199254740992

local MAX_IDS, MAX_PENDING = 10000, 16
local PENDING, ACTIVE, CLOSED = 1, 2, 3
local STATE = { 'pending', 'active', 'closed' }
F.WAITPOINT_STATE = STATE

-- Places in a packed waitpoint. Sources are a JSON text.
local ATTEMPT, SOURCES, CREATED, STATUS, EXPIRES, SUSPENSION, ACTIVATED, SHUT, REASON, DETAIL, COUNT =
	2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12

-- Every key of a suspension's records under an execution.
local KEYS = { 's', 'sw', 'so', 'sg', 'sp', 'sm', 'sd', 'sk' }

-- How many subordinate records of x this domain holds. A key is none of its own: it leads to a dedup entry.
function F.suspension_records(c, x)
	if x.wps == 0 and not x.ext.su then
		return 0
	end
	local call, p, id = redis.call, c.p, x.id
	return call('HLEN', p .. 'sw' .. id) + call('HLEN', p .. 'sg' .. id) + call('HLEN', p .. 'sd' .. id)
		+ call('EXISTS', p .. 's' .. id)
end

function F.unlink_suspension(c, id)
	for i = 1, #KEYS do
		F.sure('UNLINK', c.p .. KEYS[i] .. id)
	end
end

local function unpacked(what, packed, n, id)
	local ok, t = pcall(cmsgpack.unpack, packed)
	if not ok or type(t) ~= 'table' or t[1] ~= 1 or #t ~= n then
		F.corrupt(what, id)
	end
	return t
end
F.unpacked = unpacked

-- The present or last suspension as a map of texts, or nil.
function F.suspension(c, x)
	if x.sus == nil then
		x.sus = false
		if x.ext.su then
			local flat = redis.call('HGETALL', c.p .. 's' .. x.id)
			local s = F.map(flat)
			if s.v ~= '1.0' or not s.condition or not s.resume_policy or #(s.suspension_id or '') ~= 36
				or (s.timeout_at and not F.whole(s.timeout_at)) then
				F.corrupt('suspension', x.id)
			end
			x.sus = s
		end
	end
	return x.sus or nil
end

-- The suspension if it is open.
function F.open_suspension(c, x)
	local s = F.suspension(c, x)
	if s and not s.closed_at then
		return s
	end
	return nil
end

-- The waitpoints of a suspension, raw, in binding order.
local function bound_ids(s)
	local out = {}
	for text in string.gmatch(s.waitpoint_ids or '', '[^,]+') do
		out[#out + 1] = F.uuid_raw(text)
	end
	return out
end

local function timed_out(c, s)
	return s.timeout_at and tonumber(s.timeout_at) <= c.now
end

local function number(n)
	return string.format('%d', n)
end

-- A waitpoint of x, or nil.
function F.waitpoint(c, x, id)
	if x.wps == 0 then
		return nil
	end
	local all = x.waitpoints
	if not all then
		all = {}
		x.waitpoints = all
	end
	local w = all[id]
	if not w then
		local packed = redis.call('HGET', c.p .. 'sw' .. x.id, id)
		if not packed then
			return nil
		end
		w = unpacked('waitpoint', packed, COUNT, id)
		all[id] = w
	end
	return w
end

function F.put_waitpoint(c, x, id, w)
	x.waitpoints = x.waitpoints or {}
	x.waitpoints[id] = w
	F.write(c, 'HSET', c.p .. 'sw' .. x.id, id, cmsgpack.pack(w))
end

-- Why a waitpoint takes no signals now: nil while it is open. What is due counts as closed before any timer fires.
function F.closed_as(c, x, w)
	if w[STATUS] == PENDING then
		return w[EXPIRES] <= c.now and 'expired' or nil
	elseif w[STATUS] == CLOSED then
		return w[REASON]
	end
	local s = F.open_suspension(c, x)
	if not s or s.suspension_id ~= F.uuid_text(w[SUSPENSION]) or timed_out(c, s) then
		-- Of a damaged one nobody is let in.
		return 'timed_out'
	end
	return nil
end

-- The state of a waitpoint as of the clock.
local function state_at(c, x, w)
	return F.closed_as(c, x, w) and CLOSED or w[STATUS]
end

-- Ids of the waitpoints that are stored as pending or active, ascending. Those closed in this call are among them.
local function open_ids(c, x)
	if x.wps == 0 then
		return {}
	end
	local ids = redis.call('SMEMBERS', c.p .. 'so' .. x.id)
	table.sort(ids, F.below)
	return ids
end

-- Reads the suspension and the waitpoints that are not closed; what cannot be decoded ends the call.
function F.read_suspension(c, x)
	local s = F.suspension(c, x)
	if s and s.timeout_behavior then
		cjson.decode(s.timeout_behavior)
	end
	local ids = open_ids(c, x)
	for i = 1, #ids do
		F.waitpoint(c, x, ids[i])
	end
end

-- Of the open pending waitpoints their number and the signals buffered on them.
function F.pending(c, x)
	local n, buffered = 0, 0
	local ids = open_ids(c, x)
	for i = 1, #ids do
		local w = F.waitpoint(c, x, ids[i])
		if w and w[STATUS] == PENDING and not F.closed_as(c, x, w) then
			n = n + 1
			buffered = buffered + w[COUNT]
		end
	end
	return n, buffered
end

-- Closes a waitpoint; a pending one that is already due closes as expired, whatever closes it.
local function close_waitpoint(c, x, id, reason, detail)
	local w = F.waitpoint(c, x, id)
	if not w or w[STATUS] == CLOSED then
		return
	end
	if w[STATUS] == PENDING then
		F.timer(c, 6, '\0' .. x.id .. id, false)
		if w[EXPIRES] <= c.now then
			reason, detail = 'expired', nil
		end
	end
	w[STATUS], w[SHUT], w[REASON], w[DETAIL] = CLOSED, c.now, reason, detail or false
	F.put_waitpoint(c, x, id, w)
	F.late(c, 'SREM', c.p .. 'so' .. x.id, id)
end

-- Closes the waitpoints of x that stand as 'pending', 'active' or either ('open').
function F.close_waitpoints(c, x, which, reason)
	local ids = open_ids(c, x)
	for i = 1, #ids do
		local w = F.waitpoint(c, x, ids[i])
		if w and (which == 'open' or STATE[w[STATUS]] == which) then
			close_waitpoint(c, x, ids[i], reason)
		end
	end
end

-- Writes fields of the suspension; false removes one.
local function amend(c, x, fields)
	local s, key = x.sus, c.p .. 's' .. x.id
	for field, text in pairs(fields) do
		if text then
			s[field] = text
			F.write(c, 'HSET', key, field, text)
		else
			s[field] = nil
			F.write(c, 'HDEL', key, field)
		end
	end
end

-- What the waitpoints of a suspension close as.
local SHUT_AS = {
	satisfied = 'satisfied', already_satisfied = 'satisfied', operator_resume = 'operator_resume',
	execution_ended = 'execution_ended', timed_out_fail = 'timed_out', timed_out_cancel = 'timed_out',
	timed_out_expire = 'timed_out', timed_out_auto_resume = 'timed_out',
}

-- Closes the open suspension and its waitpoints; nothing when none is open. `more`: fields that closing sets.
function F.close_suspension(c, x, reason, more)
	if not F.open_suspension(c, x) then
		return
	end
	local fields = more or {}
	fields.closed_at, fields.close_reason = number(c.now), reason
	amend(c, x, fields)
	F.close_waitpoints(c, x, 'active', SHUT_AS[reason])
	x.stimeout = NONE
	F.touch(c, x)
end

-- From SUSPENDED to runnable: the only way.
local function wake(c, x, reason, more)
	-- At most 30 days, written by Rust.
	local delay = tonumber(string.match(F.suspension(c, x).resume_policy, '"resume_delay_ms":(%d+)'))
	F.close_suspension(c, x, reason, more)
	if delay and delay > 0 then
		local at = F.after(c.now, delay)
		if x.nb == NONE or x.nb < at then
			x.nb, x.nbk = at, 3
		end
	end
	F.runnable(c, x, 4)
end
F.wake = wake

-- Places in a packed signal (signal.lua says what stands in all of them).
local G_ID, G_WAITPOINT, G_NAME, G_CATEGORY, G_TYPE, G_IDENTITY, G_CORRELATION, G_BOUND, G_EFFECT =
	2, 4, 5, 6, 7, 8, 9, 13, 14
F.G_EFFECT, F.G_WAITPOINT, F.G_TYPE, F.G_IDENTITY, F.G_BOUND = G_EFFECT, G_WAITPOINT, G_TYPE, G_IDENTITY, G_BOUND

-- A packed signal, as the evaluation takes it.
local function view(g)
	return {
		id = g[G_ID], waitpoint = g[G_WAITPOINT], name = g[G_NAME], category = g[G_CATEGORY], source_type = g[G_TYPE],
		source_identity = g[G_IDENTITY], correlation = g[G_CORRELATION], bound = g[G_BOUND],
	}
end

-- The condition of x's suspension as its recorded signals have left it. Only those that contributed changed anything.
function F.judge(c, x, s)
	local j = F.condition(s.condition, bound_ids(s))
	local seqs = redis.call('ZRANGE', c.p .. 'sm' .. x.id, 0, -1)
	for at = 1, #seqs, 512 do
		local packed = redis.call('HMGET', c.p .. 'sg' .. x.id, unpack(seqs, at, math.min(at + 511, #seqs)))
		for i = 1, #packed do
			if not packed[i] then
				F.corrupt('signal', x.id)
			end
			local g = unpacked('signal', packed[i], G_EFFECT, x.id)
			if g[G_WAITPOINT] then
				F.push(j, view(g))
			end
		end
	end
	return j
end

-- Puts a record under the next number; `payload` may be empty.
function F.record_signal(c, x, g, payload)
	local seq = number(x.sigseq)
	x.sigseq = x.sigseq + 1
	F.write(c, 'HSET', c.p .. 'sg' .. x.id, seq, cmsgpack.pack(g))
	if payload ~= '' then
		F.write(c, 'HSET', c.p .. 'sp' .. x.id, seq, payload)
	end
	local effect = g[G_EFFECT]
	if effect == 2 or effect == 3 or effect == 7 then
		F.write(c, 'ZADD', c.p .. 'sm' .. x.id, seq, seq)
	end
	F.touch(c, x)
end

-- Seqs, packed signals and payloads as an answer carries them.
function F.signals_out(c, x, seqs, out)
	local call = redis.call
	for i = 1, #seqs do
		local packed = call('HGET', c.p .. 'sg' .. x.id, seqs[i])
		if not packed then
			F.corrupt('signal', x.id)
		end
		local n = #out
		out[n + 1], out[n + 2], out[n + 3] = seqs[i], packed, call('HGET', c.p .. 'sp' .. x.id, seqs[i])
	end
	return out
end

-- The present or last suspension, flat; false if there was none.
function F.suspension_info(c, x)
	if not x.ext.su then
		return false
	end
	return redis.call('HGETALL', c.p .. 's' .. x.id)
end

-- The last suspension with its matched signals: suspension, their number, the first 16.
function F.resume_info(c, x)
	local key = c.p .. 'sm' .. x.id
	local seqs = redis.call('ZRANGE', key, 0, 15)
	return { F.suspension_info(c, x), redis.call('ZCARD', key), F.signals_out(c, x, seqs, {}) }
end

-- Calls arm(waitpoint id, due) for every pending waitpoint.
function F.waitpoint_timers(c, x, arm)
	local ids = open_ids(c, x)
	for i = 1, #ids do
		local w = F.waitpoint(c, x, ids[i])
		if w and w[STATUS] == PENDING then
			arm(ids[i], w[EXPIRES])
		end
	end
end

-- The timer of a pending waitpoint; true if it was current.
function F.fire_waitpoint(c, x, id, due)
	local w = F.waitpoint(c, x, id)
	if not w or w[STATUS] ~= PENDING or w[EXPIRES] ~= due then
		return false
	end
	close_waitpoint(c, x, id, 'expired')
	F.touch(c, x)
	return true
end

-- The id of a suspension's timeout signal: version 8; the second one has its last bit turned.
local function timeout_signal(raw, second)
	local version, last = string.byte(raw, 7), string.byte(raw, 16)
	if second then
		last = last % 2 == 0 and last + 1 or last - 1
	end
	return string.sub(raw, 1, 6) .. string.char(128 + version % 16) .. string.sub(raw, 8, 15) .. string.char(last)
end

local ENDS = {
	fail = { 'timed_out_fail', 2 }, cancel = { 'timed_out_cancel', 3 }, expire = { 'timed_out_expire', 4 },
}

-- Records the timeout signal of the open suspension, which is due, and does what its behaviour says.
function F.fire_suspension_timeout(c, x)
	local s = F.open_suspension(c, x)
	if not s then
		x.stimeout = NONE
		F.touch(c, x)
		return
	end
	local behavior = cjson.decode(s.timeout_behavior)
	F.record_signal(c, x, {
		1, timeout_signal(F.uuid_raw(s.suspension_id), s.escalated_at), c.now, false, 'timeout', 'timeout', 'engine',
		'engine', false, false, false, false, false, 7,
	}, '')
	local kind = behavior.type
	if kind == 'auto_resume' then
		wake(c, x, 'timed_out_auto_resume')
	elseif kind == 'escalate' then
		local after = behavior.fail_after_ms
		x.stimeout = after and F.after(c.now, after) or NONE
		amend(c, x, {
			escalated_at = number(c.now), timeout_at = after and number(x.stimeout) or false,
			timeout_behavior = after and '{"type":"fail"}' or false,
		})
		F.close_waitpoints(c, x, 'active', 'timed_out')
		F.vector(c, x, 8, 0, 5)
		F.touch(c, x)
		F.end_if_covered(c, x)
	else
		F.close_suspension(c, x, ENDS[kind][1])
		F.terminate(c, x, ENDS[kind][2], F.CAUSE.suspension_timeout, 1)
	end
end

-- Refuses to issue tokens under a kid that is not current.
local function may_mint(c, kid)
	local current = F.current_kid(c)
	if not current then
		return { '!', 'hmac_secret_not_initialized' }
	end
	if current ~= kid then
		return { '!', 'stale_kid', current }
	end
	return nil
end

local function may_use(x, new)
	if x.wps + new > MAX_IDS then
		return { '!', 'waitpoint_limit_exceeded', 'execution', MAX_IDS }
	end
	return nil
end

local function bad_condition(path, reason)
	return { '!', 'invalid_resume_condition', path, reason }
end

-- The first leaf whose waitpoints declare too few sources; `sources`: waitpoint -> JSON text.
local function too_few(j, sources)
	for i = 1, #j.leaves do
		local leaf = j.leaves[i]
		if leaf.authenticated then
			local seen, n = {}, 0
			for waitpoint, text in pairs(sources) do
				if F.feeds(j, leaf, waitpoint) then
					local list = cjson.decode(text)
					for k = 1, #list do
						local key = F.pair(list[k].source_type, list[k].source_identity)
						if not seen[key] then
							seen[key] = true
							n = n + 1
						end
					end
				end
			end
			if n < (leaf.distinct == 'sources' and leaf.need or 1) then
				return bad_condition(leaf.path, 'too_few_sources')
			end
		end
	end
	return nil
end

-- What a suspend answers, read from the records.
local function suspended(c, x)
	local s = F.suspension(c, x)
	local sources, bound = {}, bound_ids(s)
	for i = 1, #bound do
		local w = F.waitpoint(c, x, bound[i])
		sources[i] = w and w[SOURCES] or '[]'
	end
	if s.close_reason == 'already_satisfied' then
		return { 'already_satisfied', sources, F.resume_info(c, x), F.summary(x) }
	end
	return { 'suspended', sources, s.timeout_at or false, F.summary(x) }
end

-- The recorded signals of x, ascending: list of { seq, record }.
local function recorded(c, x)
	local flat, out = redis.call('HGETALL', c.p .. 'sg' .. x.id), {}
	for i = 1, #flat, 2 do
		out[#out + 1] = { tonumber(flat[i]), unpacked('signal', flat[i + 1], G_EFFECT, x.id) }
	end
	table.sort(out, function(p, q)
		return p[1] < q[1]
	end)
	return out
end

-- ff_suspend_execution. a: 2 id, 3..5 fence, 6 suspension id, 7 digest, 8 kid or false, 9 bindings { waitpoint id,
-- sources as JSON or false for a pending one, ... }, 10 label of the vector, 11 condition, 12 operator override,
-- 13 timeout (0 the policy's, 1 never, 2 given), 14 its time, 15 its behaviour, 16 fields that are kept as they are.
-- Reply: { 'suspended', sources { JSON, ... } in binding order, timeout_at or false, summary } |
-- { 'already_satisfied', sources, resume info, summary }.
local function suspend_execution(c, a, x)
	local call, p, id = redis.call, c.p, x.id
	local bindings = a[9]
	local name = F.uuid_text(a[6])
	local digest = F.hex(a[7])
	local last = F.suspension(c, x)
	if last and last.suspension_id == name then
		if last.digest ~= digest or last.lease_id ~= F.uuid_text(a[3]) or last.lease_epoch ~= number(a[4])
			or last.attempt_id ~= F.uuid_text(a[5]) then
			return { '!', 'suspension_conflict' }
		end
		return #bindings > 0 and may_mint(c, a[8]) or suspended(c, x)
	end
	local refused = F.fence(c, x, a[3], a[4], a[5])
	if refused then
		return refused
	end
	-- The policy is known.
	local after, behavior = a[14], a[15]
	if a[13] == 0 then
		local f = F.frozen(x)
		after, behavior = f[6], f[7] or '{"type":"fail"}'
	end
	if not after then
		behavior = nil
	end
	local bound, sources, fresh = {}, {}, 0
	for i = 1, #bindings, 2 do
		bound[#bound + 1] = bindings[i]
	end
	local j = F.condition(a[11], bound)
	if j.root.only == 'timeout_only' and not after then
		return bad_condition('/root', 'needs_timeout')
	end
	if not a[12] then
		if j.root.only == 'operator_only' then
			return bad_condition('/root', 'needs_override')
		elseif behavior and cjson.decode(behavior).type == 'escalate' then
			return bad_condition('', 'needs_override')
		end
	end
	if #bound > 0 then
		refused = may_mint(c, a[8])
		if refused then
			return refused
		end
	end
	for i = 1, #bound do
		local declared = bindings[i * 2]
		local w = F.waitpoint(c, x, bound[i])
		if declared then
			if w then
				return { '!', 'waitpoint_already_exists', STATE[state_at(c, x, w)] }
			end
			fresh = fresh + 1
		elseif not w then
			return { '!', 'waitpoint_not_found' }
		else
			local why = F.closed_as(c, x, w)
			if why == 'expired' then
				return { '!', 'pending_waitpoint_expired' }
			elseif why or w[STATUS] ~= PENDING then
				return { '!', 'waitpoint_not_pending', why and 'closed' or STATE[w[STATUS]] }
			end
			declared = w[SOURCES]
		end
		sources[bound[i]] = declared
	end
	refused = too_few(j, sources) or may_use(x, fresh)
	if refused then
		return refused
	end
	-- Buffered signals get their final effects; those that nothing reads any more go.
	local gone, matched = {}, {}
	if x.sigseq > 1 then
		local all = recorded(c, x)
		for i = 1, #all do
			local seq, g = number(all[i][1]), all[i][2]
			local waitpoint = g[G_WAITPOINT]
			if waitpoint and j.bound[waitpoint] then
				local effect = F.push(j, view(g))
				g[G_EFFECT] = effect
				F.write(c, 'HSET', p .. 'sg' .. id, seq, cmsgpack.pack(g))
				local entry = call('HGET', p .. 'sd' .. id, g[G_ID])
				if entry then
					local d = unpacked('dedup', entry, 5, g[G_ID])
					d[5] = effect
					F.write(c, 'HSET', p .. 'sd' .. id, g[G_ID], cmsgpack.pack(d))
				end
				if effect == 2 or effect == 3 then
					matched[#matched + 1] = seq
				end
			else
				local w = waitpoint and F.waitpoint(c, x, waitpoint)
				if not w or w[STATUS] ~= PENDING then
					gone[#gone + 1] = seq
				end
			end
		end
	end
	for at = 1, #gone, 512 do
		F.write(c, 'HDEL', p .. 'sg' .. id, unpack(gone, at, math.min(at + 511, #gone)))
		F.write(c, 'HDEL', p .. 'sp' .. id, unpack(gone, at, math.min(at + 511, #gone)))
	end
	F.write(c, 'DEL', p .. 'sm' .. id, p .. 's' .. id)
	for i = 1, #matched do
		F.write(c, 'ZADD', p .. 'sm' .. id, matched[i], matched[i])
	end
	local satisfied = j.closer ~= nil
	for i = 1, #bound do
		local w = F.waitpoint(c, x, bound[i])
		if w then
			F.timer(c, 6, '\0' .. id .. bound[i], false)
			w[STATUS], w[SUSPENSION], w[ACTIVATED] = ACTIVE, a[6], c.now
		else
			w = {
				1, x.attempts - 1, sources[bound[i]], c.now, ACTIVE, false, a[6], c.now, false, false, false, 0,
			}
			x.wps = x.wps + 1
		end
		if satisfied then
			w[STATUS], w[SHUT], w[REASON] = CLOSED, c.now, 'satisfied'
			F.late(c, 'SREM', p .. 'so' .. id, bound[i])
		else
			F.write(c, 'SADD', p .. 'so' .. id, bound[i])
		end
		F.put_waitpoint(c, x, bound[i], w)
	end
	local s = {
		v = '1.0', execution_id = F.id_text(c, id), suspension_id = name, attempt_index = number(x.attempts - 1),
		lease_id = F.uuid_text(a[3]), lease_epoch = number(a[4]), attempt_id = F.uuid_text(a[5]), digest = digest,
		condition = a[11], created_at = number(c.now), timeout_behavior = behavior,
	}
	for i = 1, #a[16], 2 do
		s[a[16][i]] = a[16][i + 1]
	end
	if after then
		s.timeout_at = number(F.after(c.now, after))
	end
	x.ext.su = 1
	F.touch(c, x)
	if satisfied then
		s.closed_at, s.close_reason, s.closer_signal_id = number(c.now), 'already_satisfied', F.uuid_text(j.closer)
	end
	x.sus = s
	for field, text in pairs(s) do
		F.write(c, 'HSET', p .. 's' .. id, field, text)
	end
	if not satisfied then
		if after then
			x.stimeout = F.after(c.now, after)
		end
		F.pause(c, x, 3)
		F.vector(c, x, 8, 0, a[10])
		if x.flow then
			-- An end by its flow's cancellation looks for the waitpoints that are open: they must be written.
			F.flush(c)
			F.end_if_covered(c, x)
		end
	end
	F.finish(c)
	return suspended(c, x)
end

-- ff_resume_execution. a: 2 id, 3 suspension id or false, 4 by, 5 reason. Reply: { 'resumed', suspension id, summary }.
local function resume_execution(c, a, x)
	local s = F.suspension(c, x)
	if s and a[3] and s.suspension_id == F.uuid_text(a[3]) and s.close_reason == 'operator_resume'
		and s.operator_by == a[4] and s.operator_reason == a[5] then
		return { 'resumed', a[3], F.summary(x) }
	end
	if x.s ~= 8 or not s or s.closed_at then
		return { '!', 'execution_not_suspended', F.PHASE[x.s] }
	end
	local current = F.uuid_raw(s.suspension_id)
	if a[3] and a[3] ~= current then
		return { '!', 'stale_suspension', current }
	end
	if string.find(s.resume_policy, '"allow_operator_override":false', 1, true) then
		return { '!', 'operator_override_forbidden' }
	end
	if timed_out(c, s) then
		return { '!', 'suspension_timed_out' }
	end
	wake(c, x, 'operator_resume', { operator_by = a[4], operator_reason = a[5] })
	F.finish(c)
	return { 'resumed', current, F.summary(x) }
end

-- ff_create_pending_waitpoint. a: 2 id, 3..5 fence, 6 waitpoint id, 7 expires_in, 8 sources as JSON, 9 kid or false.
-- Reply: { 'created' | 'already_exists', expires_at, summary }.
local function create_pending_waitpoint(c, a, x)
	local refused = F.fence(c, x, a[3], a[4], a[5]) or may_mint(c, a[9])
	if refused then
		return refused
	end
	local id = a[6]
	local w = F.waitpoint(c, x, id)
	if w then
		local state = state_at(c, x, w)
		if state == PENDING and w[ATTEMPT] == x.attempts - 1 and w[EXPIRES] == F.after(w[CREATED], a[7])
			and w[SOURCES] == a[8] then
			return { 'already_exists', w[EXPIRES], F.summary(x) }
		end
		return { '!', 'waitpoint_already_exists', STATE[state] }
	end
	if F.pending(c, x) >= MAX_PENDING then
		return { '!', 'waitpoint_limit_exceeded', 'pending', MAX_PENDING }
	end
	refused = may_use(x, 1)
	if refused then
		return refused
	end
	local due = F.after(c.now, a[7])
	x.wps = x.wps + 1
	F.put_waitpoint(c, x, id, { 1, x.attempts - 1, a[8], c.now, PENDING, due, false, false, false, false, false, 0 })
	F.write(c, 'SADD', c.p .. 'so' .. x.id, id)
	F.timer(c, 6, '\0' .. x.id .. id, due)
	F.touch(c, x)
	F.finish(c)
	return { 'created', due, F.summary(x) }
end

-- ff_close_waitpoint. a: 2 id, 3..5 fence, 6 waitpoint id, 7 reason.
-- Reply: { 'closed', summary } | { 'already_closed', close_reason, summary }.
local function withdraw_waitpoint(c, a, x)
	local w = F.waitpoint(c, x, a[6])
	if not w then
		return { '!', 'waitpoint_not_found' }
	end
	local why = F.closed_as(c, x, w)
	if why then
		return { 'already_closed', why, F.summary(x) }
	end
	if w[STATUS] == ACTIVE then
		return { '!', 'waitpoint_in_use' }
	end
	local refused = F.fence(c, x, a[3], a[4], a[5])
	if refused then
		return refused
	end
	close_waitpoint(c, x, a[6], 'withdrawn', a[7])
	F.touch(c, x)
	F.finish(c)
	return { 'closed', F.summary(x) }
end

-- ff_expire_suspension. a: 2 id, 3 suspension id. Reply: { 'expired', behaviour, summary } |
-- { 'not_due', cause, summary }.
local function expire_suspension(c, a, x)
	local s = F.open_suspension(c, x)
	local cause
	if x.s == 9 then
		cause = 'terminal'
	elseif not s or s.suspension_id ~= F.uuid_text(a[3]) then
		cause = 'stale'
	elseif not s.timeout_at then
		cause = 'not_armed'
	elseif not timed_out(c, s) then
		cause = 'early'
	end
	if cause then
		return { 'not_due', cause, F.summary(x) }
	end
	local behavior = s.timeout_behavior
	F.fire_suspension_timeout(c, x)
	F.finish(c)
	return { 'expired', behavior, F.summary(x) }
end

-- ff_list_pending_waitpoints. a: 2 id, 3 after this waitpoint or false, 4 limit, 5 tokens are wanted, 6 kid or false.
-- Reply: { 'waitpoints', { id, packed, progress { path, have, need, ... } or false, ... }, suspension or false, more }.
local function list_pending_waitpoints(c, a, x)
	local out, more, s, j = {}, 0, F.open_suspension(c, x), nil
	local ids = open_ids(c, x)
	for i = 1, #ids do
		local id = ids[i]
		local w = (not a[3] or F.below(a[3], id)) and F.waitpoint(c, x, id)
		if w and not F.closed_as(c, x, w) then
			local n = #out
			if n == a[4] * 3 then
				more = 1
				break
			end
			local progress = false
			if w[STATUS] == ACTIVE then
				j = j or F.judge(c, x, s)
				progress = F.progress(j, id)
			end
			out[n + 1], out[n + 2], out[n + 3] = id, cmsgpack.pack(w), progress
		end
	end
	if a[5] and #out > 0 then
		local refused = may_mint(c, a[6])
		if refused then
			return refused
		end
	end
	return { 'waitpoints', out, s and F.suspension_info(c, x) or false, more }
end

redis.register_function('ff_suspend_execution', F.on_execution(suspend_execution))
redis.register_function('ff_resume_execution', F.on_execution(resume_execution))
redis.register_function('ff_create_pending_waitpoint', F.on_execution(create_pending_waitpoint))
redis.register_function('ff_close_waitpoint', F.on_execution(withdraw_waitpoint))
redis.register_function('ff_expire_suspension', F.on_execution(expire_suspension))
redis.register_function {
	function_name = 'ff_list_pending_waitpoints', callback = F.on_execution(list_pending_waitpoints),
	flags = { 'no-writes' },
}
