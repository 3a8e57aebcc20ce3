-- drop_delayed: removes the oldest payloads of a timestamp, within the limits but at least one, and an empty timestamp.
--
-- KEYS[1]  (LIST)  Keys.delayed(); a key of the wrong type is left, and its timestamp removed
-- KEYS[2]  ZSET    Keys.delayed_schedule
-- ARGV[1]  the timestamp, epoch seconds
-- ARGV[2]  Keys.timestamps_prefix: one SET for each payload, named by the payload itself
-- ARGV[3]  Keys.delayed_name()
-- ARGV[4]  the limit of payloads
-- ARGV[5]  the limit of their bytes; a larger payload is removed alone
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
