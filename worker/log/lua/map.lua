-- Give a cohort a chosen segment, key and generation, before its first payload or after its segment was deleted.
-- KEYS: base of the segment wanted, the environment's hash of cohorts, its hash of segments, base of the segment that
--   the cohort has ('' for none)
-- ARGV: cohort (as it stands in both hashes), integration key, cohort id, segment key wanted, that which it has ('' for
--   none), generation wanted
-- Returns {'mapped'} | {'there'} (it is so already) | {'changed'} (it has another segment than was thought)
--   | {'taken', whose} (the key is another cohort's) | {'lives', key, generation} (a segment must be deleted first)
--   | {'past', generation} (so many generations of the key there were already)
local wanted = tonumber(ARGV[6])
local has = redis.call('HGET', KEYS[2], ARGV[1]) or ''
if has ~= ARGV[5] then return {'changed'} end
local holder = redis.call('HGET', KEYS[3], ARGV[4])
if holder and holder ~= ARGV[1] then return {'taken', holder} end

local known = redis.call('HMGET', segment_key, 'context_kind', 'generation', 'integration_key', 'cohort_id', 'reserved',
  'reserved_over')
local generation = tonumber(known[2] or '0')
if known[1] then
  if known[3] ~= ARGV[2] or known[4] ~= ARGV[3] then return {'taken', known[3]} end
  if generation == wanted then return {'there'} end
  return {'lives', ARGV[4], known[2]}
end
if has ~= '' and has ~= ARGV[4] then
  local former = redis.call('HMGET', KEYS[4] .. ':segment', 'context_kind', 'generation')
  if former[1] then return {'lives', has, former[2]} end
end
-- A generation that was reserved and never used may be chosen anew.
if known[5] == known[2] and known[6] then generation = tonumber(known[6]) end
if generation >= wanted then return {'past', string.format('%.0f', generation)} end

redis.call('HSET', segment_key, 'generation', string.format('%.0f', wanted - 1),
  'reserved', string.format('%.0f', wanted - 1), 'reserved_over', string.format('%.0f', generation))
redis.call('HDEL', segment_key, 'moved_to')
redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
redis.call('HSET', KEYS[3], ARGV[4], ARGV[1])
if has ~= '' and has ~= ARGV[4] then redis.call('HSET', KEYS[4] .. ':segment', 'moved_to', ARGV[4]) end
return {'mapped'}
