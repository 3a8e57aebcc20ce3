-- apply: does the commands of a transaction, if the watched keys have the values that were read.
--
-- KEYS[1..n]   (STRING)  the watched keys
-- ARGV[1..n]   what each had, behind "="; "" for none
-- ARGV[n+1..]  for each command the number of its words, and those; of an EVAL the second word is a place in `scripts`
-- returns      the commands' replies in their order; nil, and nothing done, where a watched key has another value
-- The first command frees memory: a script that has begun to write may go on where the server is full, a MULTI may not.
for at, key in ipairs(KEYS) do
    local found = redis.pcall("GET", key)
    found = type(found) == "string" and "=" .. found or ""
    if found ~= ARGV[at] then return nil end
end
local function done(words)
    if words[1] ~= "EVAL" then return redis.pcall(unpack(words)) end
    local keys, args, count = {}, {}, tonumber(words[3])
    for at = 4, #words do table.insert(at <= 3 + count and keys or args, words[at]) end
    return scripts[words[2]](keys, args)
end
local replies, at = {}, #KEYS + 1
while at <= #ARGV do
    local words = {}
    for word = at + 1, at + tonumber(ARGV[at]) do table.insert(words, ARGV[word]) end
    table.insert(replies, done(words) or false)
    at = at + #words + 1
end
return replies
