-- A page of the messages of a document: after and up to a number, no more than a limit,
-- and no more bytes than a bound unless the first one alone has more.
local after, to, limit, bound = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local last = to < 0 and '+' or string.format('%.0f-0', to)
local page, bytes, from = {}, 0, string.format('%.0f-0', after + 1)
while #page < 2 * limit do
  local some = redis.call('XRANGE', KEYS[1], from, last, 'COUNT', math.min(64, limit - #page / 2))
  for _, entry in ipairs(some) do
    local fields = entry[2] -- m, the message, t, whose step it was
    bytes = bytes + #fields[2]
    if bytes > bound and #page > 0 then return page end
    page[#page + 1] = entry[1] .. ' ' .. fields[4]
    page[#page + 1] = fields[2]
  end
  if #some < 64 then return page end
  from = '(' .. some[#some][1]
end
return page
