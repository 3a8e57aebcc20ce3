-- drop_delayed: removes the oldest payloads of a timestamp, as many as the bounds allow, but at least one; the last one takes the timestamp with it.
--
-- KEYS[1]  (LIST)  Keys.delayed(); a key of another type is left alone, and its timestamp goes
-- KEYS[2]  ZSET    Keys.delayed_schedule
-- ARGV[1]  the timestamp, epoch seconds
-- ARGV[2]  Keys.timestamps_prefix: one SET a payload, named by the payload itself, so walked here
-- ARGV[3]  Keys.delayed_name()
-- ARGV[4]  how many payloads
-- ARGV[5]  how many bytes of them; one that is larger goes alone
-- returns  the payloads
local dropped, bytes = {}, tonumber(ARGV[5])
local payload = redis.pcall("LINDEX", KEYS[1], 0)
while type(payload) == "string" and #dropped < tonumber(ARGV[4]) and (#dropped == 0 or #payload <= bytes) do
    redis.call("LPOP", KEYS[1])
    redis.pcall("SREM", ARGV[2] .. payload, ARGV[3])
    table.insert(dropped, payload)
    bytes = bytes - #payload
    payload = redis.call("LINDEX", KEYS[1], 0)
end
if type(payload) ~= "string" then redis.call("ZREM", KEYS[2], ARGV[1]) end
return dropped
