-- Domain lease: execution.md, section 6.

local F = F

-- ff_renew_lease. a: 2 id, 3..5 fence, 6 ttl.
-- Reply: { 'renewed', lease_expires_at, deadline_at, attempt_deadline_at, summary }.
local function renew_lease(c, a, x)
	local refused = F.fence(c, x, a[3], a[4], a[5])
	if refused then
		return refused
	end
	x.lexp = math.max(x.lexp, F.after(c.now, a[6]))
	x.lren = c.now
	F.touch(c, x)
	F.finish(c)
	return { 'renewed', x.lexp, F.opt(x.deadline), F.opt(x.adue), F.summary(x) }
end

-- ff_mark_lease_expired. a: 2 id, 3 epoch. Reply: { 'lost' | 'ended', summary } | { 'not_due', cause, summary }.
local function mark_lease_expired(c, a, x)
	local cause
	if x.s == 9 then
		cause = 'terminal'
	elseif x.epoch ~= a[3] then
		cause = 'stale'
	elseif x.s ~= 5 then
		cause = 'not_armed'
	elseif x.lexp > c.now then
		cause = 'early'
	end
	if cause then
		return { 'not_due', cause, F.summary(x) }
	end
	F.lose(c, x)
	F.finish(c)
	return { x.s == 9 and 'ended' or 'lost', F.summary(x) }
end

-- ff_revoke_lease. a: 2 id, 3 lease id, 4 reason, 5 by. Reply: { 'revoked', lease id, epoch, summary } |
-- { 'already_released', summary }.
local function revoke_lease(c, a, x)
	if x.s < 5 or x.s > 7 then
		return F.fence(c, x, '', 0, '')
	end
	if x.lid ~= a[3] then
		return { '!', 'stale_lease' }
	end
	if x.s ~= 5 then
		return { 'already_released', F.summary(x) }
	end
	F.revoke(c, x, a[5], a[4])
	F.finish(c)
	return { 'revoked', x.lid, x.epoch, F.summary(x) }
end

redis.register_function('ff_renew_lease', F.on_execution(renew_lease))
redis.register_function('ff_mark_lease_expired', F.on_execution(mark_lease_expired))
redis.register_function('ff_revoke_lease', F.on_execution(revoke_lease))
