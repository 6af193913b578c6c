-- Domain signal: suspension.md, section 5. The keys are suspension.lua's.
--
-- A packed signal: 1, signal id, accepted_at, waitpoint id or false of an engine's, name, category, source type, source
-- identity, correlation id, idempotency key, encoding, kid (false each where absent), source-bound, effect. A dedup
-- entry: 1, waitpoint id, idempotency key or false, digest, effect.

local F = F

local MAX_WAITPOINT, MAX_SOURCE, MAX_BYTES, MAX_BUFFERED = 1000, 250, 16777216, 1000
local MAX_PAGE_BYTES = 1048576
local PENDING = 1
local ACTIVATED, COUNT, STATUS = 8, 12, 5
local BUFFERED, SATISFIED, APPENDED, NEVER_ACTIVATED, TIMEOUT = 1, 2, 3, 6, 7

local function limit(scope, max)
	return { '!', 'signal_limit_exceeded', scope, max }
end

-- Signals recorded on a waitpoint that came with a token bound to this source.
local function of_source(c, x, waitpoint, source_type, source_identity)
	local all, n = redis.call('HVALS', c.p .. 'sg' .. x.id), 0
	for i = 1, #all do
		local g = F.unpacked('signal', all[i], F.G_EFFECT, x.id)
		if g[F.G_WAITPOINT] == waitpoint and g[F.G_BOUND] and g[F.G_TYPE] == source_type
			and g[F.G_IDENTITY] == source_identity then
			n = n + 1
		end
	end
	return n
end

-- Refuses a signal that does not contribute and is one too many.
local function within_limits(c, x, w, a, bytes)
	if w[COUNT] >= MAX_WAITPOINT then
		return limit('waitpoint', MAX_WAITPOINT)
	end
	if a[5] and w[COUNT] >= MAX_SOURCE and of_source(c, x, a[3], a[9], a[10]) >= MAX_SOURCE then
		return limit('source', MAX_SOURCE)
	end
	local max = F.frozen(x)[9]
	if x.signals >= max then
		return limit('execution', max)
	end
	if x.sigbytes + bytes > MAX_BYTES then
		return limit('payload', MAX_BYTES)
	end
	if w[STATUS] == PENDING then
		local _, buffered = F.pending(c, x)
		if buffered >= MAX_BUFFERED then
			return limit('buffered', MAX_BUFFERED)
		end
	end
	return nil
end

-- a: 2 id, 3 waitpoint id, 4 kid, 5 source-bound, 6 signal id, 7 name, 8 category, 9 source type, 10 source identity,
-- 11 encoding or false, 12 correlation id or false, 13 idempotency key or false, 14 digest. args[2]: the payload.
-- Only a verified token's execution, waitpoint and kid get here.
-- Reply: { 'accepted' | 'duplicate', signal id, effect, summary }.
local function take_in(keys, args, pending_only)
	local c, a = F.open(keys, args)
	local worth = F.kid_worth(c, a[4])
	if worth == 'expired' then
		return { '!', 'token_expired' }
	elseif worth == 'retired' then
		return { '!', 'invalid_token' }
	end
	local x = F.find(c, a[2])
	local w = x and F.waitpoint(c, x, a[3])
	if not w then
		return { '!', 'waitpoint_not_found' }
	end
	local call, p, id, payload = redis.call, c.p, x.id, args[2]
	-- The first signal, if this is it again.
	local field = a[13] and a[3] .. (a[5] and '\1' .. F.pair(a[9], F.pair(a[10], a[13])) or '\0' .. a[13])
	local first = field and call('HGET', p .. 'sk' .. id, field) or a[6]
	local packed = call('HGET', p .. 'sd' .. id, first)
	if packed then
		local d = F.unpacked('dedup', packed, 5, first)
		if d[4] ~= a[14] then
			return { '!', 'signal_conflict', first }
		end
		local effect = d[5]
		if effect == BUFFERED and not w[ACTIVATED] and F.closed_as(c, x, w) then
			effect = NEVER_ACTIVATED
		end
		return { 'duplicate', first, F.EFFECT[effect], F.summary(x) }
	end
	local why = F.closed_as(c, x, w)
	if why then
		return { '!', 'waitpoint_closed', why }
	end
	if pending_only and w[STATUS] ~= PENDING then
		return { '!', 'waitpoint_not_pending', F.WAITPOINT_STATE[w[STATUS]] }
	end
	local effect = BUFFERED
	if w[STATUS] ~= PENDING then
		effect = F.push(F.judge(c, x, F.open_suspension(c, x)), {
			id = a[6], waitpoint = a[3], name = a[7], category = a[8], source_type = a[9], source_identity = a[10],
			correlation = a[12], bound = a[5],
		})
	end
	if effect ~= SATISFIED and effect ~= APPENDED then
		local refused = within_limits(c, x, w, a, #payload)
		if refused then
			return refused
		end
		x.sigbytes = x.sigbytes + #payload
	end
	F.record_signal(c, x, {
		1, a[6], c.now, a[3], a[7], a[8], a[9], a[10], a[12], a[13], a[11], a[4], a[5], effect,
	}, payload)
	x.signals = x.signals + 1
	w[COUNT] = w[COUNT] + 1
	F.put_waitpoint(c, x, a[3], w)
	F.write(c, 'HSET', p .. 'sd' .. id, a[6], cmsgpack.pack({ 1, a[3], a[13], a[14], effect }))
	if field then
		F.write(c, 'HSET', p .. 'sk' .. id, field, a[6])
	end
	if effect == SATISFIED then
		F.wake(c, x, 'satisfied', { closer_signal_id = F.uuid_text(a[6]) })
	end
	F.finish(c)
	return { 'accepted', a[6], F.EFFECT[effect], F.summary(x) }
end

-- ff_deliver_signal.
local function deliver_signal(keys, args)
	return take_in(keys, args, false)
end

-- ff_buffer_signal: on a pending waitpoint only.
local function buffer_signal(keys, args)
	return take_in(keys, args, true)
end

-- ff_list_signals. a: 2 id, 3 matched_only, 4 the cursor's suspension or false, 5 after this seq, 6 limit.
-- Reply: { 'signals', suspension or false, progress { path, have, need, ... }, { seq, packed, payload or false, ... },
-- more }.
local function list_signals(c, a, x)
	local s = F.suspension(c, x)
	if a[4] and (not s or s.suspension_id ~= F.uuid_text(a[4])) then
		return { '!', 'stale_suspension', s and F.uuid_raw(s.suspension_id) or false }
	end
	if not s then
		return { 'signals', false, {}, {}, 0 }
	end
	local call, p, id = redis.call, c.p, x.id
	local j = F.judge(c, x, s)
	local seqs, out, n, bytes, more = {}, {}, 0, 0, 0
	local all = a[3] and call('ZRANGE', p .. 'sm' .. id, 0, -1) or call('HKEYS', p .. 'sg' .. id)
	for i = 1, #all do
		local seq = tonumber(all[i])
		if seq > a[5] then
			seqs[#seqs + 1] = seq
		end
	end
	table.sort(seqs)
	for i = 1, #seqs do
		local seq = F.digits(seqs[i])
		local packed = call('HGET', p .. 'sg' .. id, seq)
		if not packed then
			F.corrupt('signal', id)
		end
		local g = F.unpacked('signal', packed, F.G_EFFECT, id)
		local its = g[F.G_EFFECT] == TIMEOUT or j.bound[g[F.G_WAITPOINT]]
		if its then
			bytes = bytes + call('HSTRLEN', p .. 'sp' .. id, seq)
			if n > 0 and (n >= a[6] or bytes > MAX_PAGE_BYTES) then
				more = 1
				break
			end
			n = n + 1
			F.signals_out(c, x, { seq }, out)
		end
	end
	return { 'signals', F.suspension_info(c, x), F.progress(j), out, more }
end

redis.register_function('ff_deliver_signal', F.settled(deliver_signal))
redis.register_function('ff_buffer_signal', F.settled(buffer_signal))
redis.register_function {
	function_name = 'ff_list_signals', callback = F.on_execution(list_signals), flags = { 'no-writes' },
}
