-- Move the cursor over what has been written, every store request answered (rule 5). The open mark moves along: what
-- was written up to here can neither be lost nor land late.
-- ARGV: generation, store, token, epoch, position, batches, bytes, change of the member count ('' if another store counts),
--   change of the count of those excluded
-- Returns 1, 2 when the log goes on after it, or 0 when the lease or the epoch is not that of the take any more
local generation, store, token = ARGV[1], ARGV[2], ARGV[3]
local cursor, open = cursor_key(generation, store), open_key(generation, store)
local mark = redis.call('HGET', open, token)
if lease(cursor) ~= token or epoch(cursor) ~= ARGV[4] or not mark then return 0 end
if after(ARGV[5], last(generation)) then return redis.error_reply('BEYOND the last entry of the log') end
local from = position(cursor)
if not after(ARGV[5], from) then return redis.error_reply('BEHIND the cursor') end

-- Rule 13, the trail: where the cursor stood 10 to 20 minutes ago, should the store turn out to have lost what it
-- answered since.
local now, known = now_ms(), redis.call('HMGET', cursor, 'batches', 'bytes', 'recent', 'rotated_ms')
if now - tonumber(known[4] or '0') >= TRAIL_MS then
  local here = from .. ' ' .. (known[1] or '0') .. ' ' .. (known[2] or '0')
  redis.call('HSET', cursor, 'past', known[3] or here, 'recent', here, 'rotated_ms', string.format('%.0f', now))
end

local head = head_key(generation)
if after(ARGV[5], redis.call('HGET', head, 'reached') or '0-0') then redis.call('HSET', head, 'reached', ARGV[5]) end
local connection = string.match(mark, '^%S+ %S+ %S+ (.*)$')
redis.call('HSET', cursor, 'position', ARGV[5], 'batches', ARGV[6], 'bytes', ARGV[7],
  'advanced_ms', string.format('%.0f', now))
redis.call('HDEL', cursor, 'base', 'base_chunks', 'filling')
redis.call('HINCRBY', cursor, 'beat', 1)
redis.call('HSET', open, token, ARGV[5] .. ' ' .. ARGV[6] .. ' ' .. ARGV[7] .. ' ' .. connection)
count_in(generation, ARGV[8], ARGV[9])
if after(last(generation), ARGV[5]) then return 2 end
return 1
