-- Forget a generation that was deleted and closed, once nothing that is dead of it is left, and its payloads are told.
-- ARGV: generation, '1' when its environment is gone: then nobody asks for what is dead
-- Returns 1 when nothing of it is left
local generation = ARGV[1]
local prefix = base .. ':g' .. generation
if lives(generation) or last(generation) ~= '0-0' then return 0 end
if ARGV[2] ~= '1' and redis.call('HLEN', dead_key(generation)) > 0 then return 0 end
if redis.call('EXISTS', prefix .. ':refs', prefix .. ':releasing') > 0 then return 0 end
local late = redis.call('ZRANGE', late_key(generation), 0, -1)
for i = 1, #late do redis.call('UNLINK', late_entry_key(generation, late[i])) end
redis.call('UNLINK', head_key(generation), dead_key(generation), late_key(generation), prefix .. ':crashes')
return 1
