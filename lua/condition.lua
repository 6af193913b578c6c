-- Resume conditions: suspension.md, section 2. What signals do to a condition, one by one.
--
-- A condition is its compact JSON. `F.condition` makes a tree of it: an inner node is { all = bool, ... children }, a
-- leaf { need, path, keys, scope, ... }; the root-only kinds are leaves that nothing fills.

local F = F

-- Numbers of effects, in the order of their words.
F.EFFECT = {
	'buffered_for_pending_waitpoint', 'resume_condition_satisfied', 'appended_to_waitpoint',
	'appended_to_waitpoint_duplicate', 'no_op', 'no_op_waitpoint_never_activated', 'timeout_fired',
}
local SATISFIED, APPENDED, DUPLICATE, NO_OP = 2, 3, 4, 5

-- Two texts as one, so that no two pairs meet.
function F.pair(a, b)
	return struct.pack('>I4', #a) .. a .. b
end

-- The part of a tree that stands at `path`. Leaves are gathered in `leaves`, in document order.
local function grow(node, path, leaves)
	local kind = node.type
	if kind == 'all_of' or kind == 'any_of' then
		local inner = { all = kind == 'all_of' }
		for i = 1, #node.of do
			inner[i] = grow(node.of[i], string.format('%s/of/%d', path, i - 1), leaves)
		end
		return inner
	end
	if kind ~= 'signal' and kind ~= 'count' then
		return { only = kind }
	end
	local m = node.matcher or {}
	local authenticated = m.authenticated_source
	if authenticated == nil then
		authenticated = node.distinct == 'sources'
	end
	local leaf = {
		leaf = true, path = path, need = node.n or 1, distinct = node.distinct, have = 0, keys = {}, name = m.name,
		category = m.category, source_type = m.source_type, correlation = m.correlation_id,
		authenticated = authenticated,
	}
	local named = node.waitpoints or node.waitpoint and { node.waitpoint }
	if named then
		leaf.scope = {}
		for i = 1, #named do
			leaf.scope[F.uuid_raw(named[i])] = true
		end
	end
	leaves[#leaves + 1] = leaf
	return leaf
end

-- The condition of a JSON text over the waitpoints `bound` (a list of raw ids), before any signal.
function F.condition(json, bound)
	local ok, document = pcall(cjson.decode, json)
	if not ok or type(document) ~= 'table' or type(document.root) ~= 'table' then
		F.corrupt('suspension')
	end
	local set = {}
	for i = 1, #bound do
		set[bound[i]] = true
	end
	local leaves = {}
	return { root = grow(document.root, '/root', leaves), leaves = leaves, bound = set }
end

-- Whether the waitpoint is among those of a leaf.
function F.feeds(j, leaf, waitpoint)
	return j.bound[waitpoint] and (not leaf.scope or leaf.scope[waitpoint]) or false
end

local function accepts(leaf, g)
	return (not leaf.scope or leaf.scope[g.waitpoint]) and (not leaf.authenticated or g.bound)
		and (not leaf.name or leaf.name == g.name) and (not leaf.category or leaf.category == g.category)
		and (not leaf.source_type or leaf.source_type == g.source_type)
		and (not leaf.correlation or leaf.correlation == g.correlation)
end

local function key_of(leaf, g)
	if leaf.distinct == 'waitpoints' then
		return g.waitpoint
	elseif leaf.distinct == 'signals' then
		return g.id
	elseif leaf.distinct == 'sources' then
		return F.pair(g.source_type, g.source_identity)
	end
	return ''
end

local function value(node)
	if node.leaf then
		return node.have == node.need
	elseif node.only then
		return false
	end
	for i = 1, #node do
		if value(node[i]) ~= node.all then
			return not node.all
		end
	end
	return node.all
end

-- Takes a signal in { id, waitpoint, name, category, source_type, source_identity, correlation or false, bound } and
-- returns the number of its effect. The one that makes the root true is kept as `j.closer`.
function F.push(j, g)
	if j.closer or not j.bound[g.waitpoint] then
		return NO_OP
	end
	local matched, contributed = false, false
	for i = 1, #j.leaves do
		local leaf = j.leaves[i]
		if accepts(leaf, g) then
			matched = true
			local key = key_of(leaf, g)
			if leaf.have < leaf.need and not leaf.keys[key] then
				leaf.keys[key] = true
				leaf.have = leaf.have + 1
				contributed = true
			end
		end
	end
	if contributed and value(j.root) then
		j.closer = g.id
		return SATISFIED
	end
	return contributed and APPENDED or matched and DUPLICATE or NO_OP
end

-- How far the leaves are, flat: path, have, need; of those that a waitpoint feeds, if one is given.
function F.progress(j, waitpoint)
	local out = {}
	for i = 1, #j.leaves do
		local leaf = j.leaves[i]
		if not waitpoint or F.feeds(j, leaf, waitpoint) then
			local n = #out
			out[n + 1], out[n + 2], out[n + 3] = leaf.path, leaf.have, leaf.need
		end
	end
	return out
end
