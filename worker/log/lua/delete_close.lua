-- End the log of a deleted generation: everybody is out of every store, and what said so goes. What is dead stays until
-- it has had its time, and the head with it.
-- ARGV: generation, '1' to do it and '0' to ask whether it would be done, all stores of the environment ...
-- Returns {'lives'} (it is not deleted) | {'busy'} (some store is not through it, or may lose that it is) | {'closed'}
local generation = ARGV[1]
local prefix, head = base .. ':g' .. generation, head_key(generation)
if lives(generation) then return {'lives'} end
if last(generation) == '0-0' then return {'closed'} end
-- Rule 13: another process behind a store may have lost what was answered within ten minutes; then its cursor, which has
-- to be there for that, goes back.
local settled_by = now_ms() - TRAIL_MS
for i = 3, #ARGV do
  local cursor = cursor_key(generation, ARGV[i])
  if position(cursor) ~= last(generation) or lease(cursor) ~= '' or redis.call('HLEN', open_key(generation, ARGV[i])) > 0
    or tonumber(redis.call('HGET', cursor, 'advanced_ms') or '0') > settled_by then return {'busy'} end
end
if ARGV[2] ~= '1' then return {'closed'} end

-- Also of stores that were removed and are not forgotten yet.
local stores = redis.call('SMEMBERS', stores_key(generation))
for i = 3, #ARGV do stores[#stores + 1] = ARGV[i] end
for i = 1, #stores do redis.call('DEL', cursor_key(generation, stores[i]), open_key(generation, stores[i])) end
local imports = redis.call('HKEYS', imports_key(generation))
for i = 1, #imports do redis.call('UNLINK', import_key(generation, imports[i])) end
local token = redis.call('HGET', head, 'snapshot')
if token then redis.call('UNLINK', snapshot_key(generation, token)) end
local late = redis.call('ZRANGE', late_key(generation), 0, -1)
for i = 1, #late do
  if redis.call('HEXISTS', dead_key(generation), late[i]) == 0 then
    redis.call('ZREM', late_key(generation), late[i])
    redis.call('UNLINK', late_entry_key(generation, late[i]))
  end
end
-- No payload is needed by an entry of the stream any more; see payloads.lua.
redis.call('HSET', head, 'trimmed_batches', redis.call('HGET', head, 'batches') or '0', 'trimmed', last(generation))
redis.call('UNLINK', log_key(generation), imports_key(generation), stores_key(generation), prefix .. ':recent',
  prefix .. ':crashes', prefix .. ':rejected')
redis.call('HDEL', head, 'last', 'snapshot')
-- What a store that comes back from a backup may still hold is known for ours by that.
redis.call('SADD', base .. ':closed', generation)
return {'closed'}
