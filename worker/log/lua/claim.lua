-- Before a payload for several segments is appended: does this segment take the context kind? With ARGV[2] = '1' the
-- segment is created when it is absent, so that the appends that follow cannot be refused halfway.
-- ARGV: context_kind, create, integration_key, cohort_id
-- Returns {'taken'} (the key is another cohort's) | {'kind', existing kind} | {'free', generation or '0'}
local known = redis.call('HMGET', segment_key, 'context_kind', 'integration_key', 'cohort_id')
local existing = known[1]
if existing and (known[2] ~= ARGV[3] or known[3] ~= ARGV[4]) then return {'taken'} end
if existing and existing ~= ARGV[1] then return {'kind', existing} end
if not existing and ARGV[2] == '1' then
  local time = redis.call('TIME')
  redis.call('HINCRBY', segment_key, 'generation', 1)
  redis.call('HSET', segment_key, 'context_kind', ARGV[1], 'integration_key', ARGV[3], 'cohort_id', ARGV[4],
    'created_ms', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)),
    'members', '0', 'members_exact', '1')
end
return {'free', redis.call('HGET', segment_key, 'generation') or '0'}
