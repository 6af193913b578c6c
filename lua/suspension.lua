-- Domain suspension: suspension.md, section 4. Records and what closes them are in suspension_records.lua.

local F = F

local MAX_IDS, MAX_PENDING = 10000, 16
local PENDING, ACTIVE, CLOSED = 1, 2, 3
local STATE = F.WAITPOINT_STATE
local unpacked, bound_ids, timed_out, state_at, open_ids = F.unpacked, F.bound_ids, F.timed_out, F.state_at, F.open_ids
local close_waitpoint, view, wake, number = F.close_waitpoint, F.view, F.wake, F.digits

-- Places in a packed waitpoint and in a packed signal: suspension_records.lua.
local ATTEMPT, SOURCES, CREATED, STATUS, EXPIRES, SUSPENSION, ACTIVATED, SHUT, REASON = 2, 3, 4, 5, 6, 7, 8, 9, 10
local G_ID, G_WAITPOINT, G_EFFECT = 2, 4, 14

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
