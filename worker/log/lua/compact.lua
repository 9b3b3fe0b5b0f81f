-- Put a snapshot in the place of the one before it and of the entries that it contains (rules 18 and 19): all of it or
-- nothing. Its chunks lie there already, for an hour.
-- An import (rule 20) goes into the snapshot as soon as the store that is the furthest has come to just before it; the
-- other stores, and that one, read it there. It has nothing that anybody would have to parse.
-- ARGV: generation, token of the snapshot that it follows ('' for the first), its own token, chunks, bytes, members,
--   excluded members, removed members, position, floor, live entries folded into it,
--   n, n ids of entries that were dead when they were passed over,
--   n, n times the id and parser digest of an entry beside the stream that was folded,
--   n, n stores that hold the log, the other stores ...
-- Returns 'committed', or what stands in its way: 'replaced' (another came first), 'incomplete' (chunks are gone),
--   'in use' (a store needs the entries), 'changed' (an entry died, or was replayed anew), 'floor' (something below it
--   may come back to life)
local generation, former, token, chunks, upto, floor =
  ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[9], ARGV[10]
local passed, folded, stores, holding = {}, {}, {}, 0
local next_arg = 12
for i = next_arg + 1, next_arg + tonumber(ARGV[next_arg]) do passed[ARGV[i]] = true end
next_arg = next_arg + 1 + tonumber(ARGV[next_arg])
for i = next_arg + 1, next_arg + 2 * tonumber(ARGV[next_arg]), 2 do folded[ARGV[i]] = ARGV[i + 1] end
next_arg = next_arg + 1 + 2 * tonumber(ARGV[next_arg])
holding = tonumber(ARGV[next_arg])
for i = next_arg + 1, #ARGV do stores[#stores + 1] = ARGV[i] end

local function import_of(fields)
  local known = {}
  for i = 1, #fields, 2 do known[fields[i]] = fields[i + 1] end
  return known['k'] == 'import' and known['u'] or nil
end

-- Whether anything lies between the store that is the furthest and this entry: nobody has parsed that yet.
local function not_next(id, most)
  if not after(id, most) then return false end
  local next_one, late_one = redis.call('XRANGE', log_key(generation), '(' .. most, '+', 'COUNT', 1)[1],
    next_late(generation, most)
  return not next_one or next_one[1] ~= id or (late_one and after(id, late_one))
end

local head, log, dead, late = head_key(generation), log_key(generation), dead_key(generation), late_key(generation)
local known = redis.call('HMGET', head, 'snapshot', 'last', 'floor')
if (known[1] or '') ~= former or not known[2] then return 'replaced' end
local from = trimmed(generation)
if (former == '' and from ~= '0-0') or after(from, upto) then return 'replaced' end
if redis.call('LLEN', snapshot_key(generation, token)) ~= chunks then return 'incomplete' end

-- Below every cursor, and every position that a drain could go back to, of the stores that hold the log; and in any case
-- where one store at least has been. Folding what lies beside the stream alone takes nothing from anybody.
local most, least, marks = '0-0', nil, 0
local function hold(at) if not least or after(least, at) then least = at end end
for i = 1, #stores do
  local at, open = position(cursor_key(generation, stores[i])), redis.call('HVALS', open_key(generation, stores[i]))
  if after(at, most) then most = at end
  if i <= holding then
    hold(at)
    for j = 1, #open do hold(string.match(open[j], '^(%S+)')) end
  end
  marks = marks + #open
end
local final = redis.call('XREVRANGE', log, upto, '-', 'COUNT', 1)[1]
local import = upto ~= from and final and final[1] == upto and import_of(final[2]) or nil
if import then
  if not_next(upto, most) then return 'in use' end
elseif upto ~= from and (after(upto, most) or (least and after(upto, least))) then
  return 'in use'
end

for id, digest in pairs(folded) do
  if after(id, most) then return 'in use' end
  if redis.call('HGET', late_entry_key(generation, id), 'm') ~= digest or redis.call('HEXISTS', dead, id) == 1 then
    return 'changed'
  end
end
local former_floor = known[3] or '0-0'
if after(former_floor, floor) or after(floor, upto) then return 'floor' end
if floor ~= former_floor and least and after(floor, least) then return 'floor' end
local records = redis.call('HGETALL', dead)
for i = 1, #records, 2 do
  local id = records[i]
  if after(id, from) and not after(id, upto) and not passed[id] then return 'changed' end
  if after(floor, id) and string.sub(records[i + 1], 1, #DEAD) == DEAD then return 'floor' end
end
local low = redis.call('ZRANGEBYSCORE', late, '-inf', ms_of(floor))
for i = 1, #low do
  if after(floor, low[i]) and not folded[low[i]] and redis.call('HEXISTS', dead, low[i]) == 0 then return 'floor' end
end

-- First, for it needs no memory: what follows is then done, however little there is left, and makes room.
redis.call('PERSIST', snapshot_key(generation, token))
if former ~= '' then redis.call('UNLINK', snapshot_key(generation, former)) end
for id in pairs(folded) do
  redis.call('ZREM', late, id)
  redis.call('UNLINK', late_entry_key(generation, id))
end
-- What may still be replayed or discarded leaves the stream without being lost.
for id in pairs(passed) do
  local record = redis.call('HGET', dead, id)
  if record and string.sub(record, 1, #DEAD) == DEAD and not redis.call('ZSCORE', late, id) then
    local entry = redis.call('XRANGE', log, id, id)[1]
    if entry then
      redis.call('HSET', late_entry_key(generation, id), unpack(entry[2]))
      redis.call('ZADD', late, ms_of(id), id)
    end
  end
end
if final then
  for i = 1, #final[2], 2 do
    if final[2][i] == 'n' then redis.call('HSET', head, 'trimmed_batches', final[2][i + 1]) end
    if final[2][i] == 's' then redis.call('HSET', head, 'trimmed_bytes', final[2][i + 1]) end
  end
end
-- Freshness: who has come to just before an import has missed nothing but that (status.lua).
if upto ~= from then redis.call('HDEL', head, 'before_import') end
if import then
  redis.call('UNLINK', import_key(generation, import))
  if after(upto, most) then redis.call('HSET', head, 'before_import', most) end
end
local ms, sequence = string.match(upto, '^(%d+)%-(%d+)$')
redis.call('XTRIM', log, 'MINID', '=', ms .. '-' .. string.format('%.0f', tonumber(sequence) + 1))
redis.call('HSET', head, 'snapshot', token, 'trimmed', upto, 'floor', floor,
  'snapshot_bytes', ARGV[5], 'snapshot_members', ARGV[6], 'snapshot_excluded', ARGV[7], 'snapshot_removed', ARGV[8])
redis.call('HSETNX', head, 'trimmed_batches', '0')
redis.call('HSETNX', head, 'trimmed_bytes', '0')
redis.call('HINCRBY', head, 'folded', ARGV[11])
local crashes = redis.call('HKEYS', base .. ':g' .. generation .. ':crashes')
for i = 1, #crashes do
  if not after(crashes[i], upto) then redis.call('HDEL', base .. ':g' .. generation .. ':crashes', crashes[i]) end
end
redis.call('ZREMRANGEBYSCORE', base .. ':g' .. generation .. ':rejected', '-inf',
  redis.call('HGET', head, 'trimmed_batches'))

local imports = redis.call('HGETALL', imports_key(generation))
for i = 1, #imports, 2 do
  if after(floor, imports[i + 1]) then redis.call('HDEL', imports_key(generation), imports[i]) end
end

-- Rule 22: with everything in the snapshot and in every store, and nobody at work, its count is the truth.
local exact = #stores > 0 and marks == 0 and upto == known[2]
  and lives(generation)
for i = 1, #stores do exact = exact and position(cursor_key(generation, stores[i])) == upto end
if exact then
  local left = redis.call('ZRANGE', late, 0, -1)
  for i = 1, #left do exact = exact and redis.call('HEXISTS', dead, left[i]) == 1 end
end
if exact then redis.call('HSET', segment_key, 'members', ARGV[6], 'excluded', ARGV[7], 'members_exact', '1') end
return 'committed'
