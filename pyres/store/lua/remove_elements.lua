-- remove_elements: removes elements of one page of a list, and pushes the payloads of some to queues: all or nothing.
--
-- KEYS[1]     LIST    the list
-- KEYS[2]     SET     Keys.queues
-- KEYS[3..n]  (LIST)  Keys.queue() of each queue to push to; if that is not a list, the elements for it stay
-- ARGV[1]     index of the page's first element
-- ARGV[2]     index of its last one
-- ARGV[3]     a text that is in no list, to mark the elements to remove
-- ARGV[4..]   each queue's name, then for each element three: its SHA-1 in hex, the number of its queue from 1 (0: it
--             is only removed), the payload
-- returns     {how many were removed; then for each queue that is not a list two: its number, its type}; an element
--             that is no longer on the page stays
-- uses        page_elements
local first, queues = tonumber(ARGV[1]), #KEYS - 2
local reply, wanted = wanted_elements(2, 1, queues, 4 + queues)
local announced = {}
local marked = 0
for place, element in ipairs(redis.call("LRANGE", KEYS[1], first, ARGV[2])) do
    local same = wanted[redis.sha1hex(element)]
    local at = same and table.remove(same, 1)
    if at then
        local queue = tonumber(ARGV[at + 1])
        local answer = redis.pcall("LSET", KEYS[1], first + place - 1, ARGV[3])
        if answer.err and queue > 0 then return answer end
        if answer.err then
            -- A full server refuses LSET but not LREM: remove one, which frees memory for the others.
            reply[1] = reply[1] + redis.call("LREM", KEYS[1], 1, element)
            break
        end
        marked = marked + 1
        if queue > 0 then
            if not announced[queue] then redis.call("SADD", KEYS[2], ARGV[3 + queue]) end
            announced[queue] = true
            redis.call("RPUSH", KEYS[2 + queue], ARGV[at + 2])
        end
    end
end
reply[1] = reply[1] + marked
if marked > 0 then
    -- From the nearer end.
    local count = 2 * first > redis.call("LLEN", KEYS[1]) and -marked or marked
    redis.call("LREM", KEYS[1], count, ARGV[3])
end
return reply
