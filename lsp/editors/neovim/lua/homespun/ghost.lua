-- The suggestion on screen: asks for it while somebody types, draws it behind the cursor, puts it into the text.
local client = require('homespun.client')
local text = require('homespun.text')

local M = {}
local api = vim.api
local namespace = api.nvim_create_namespace('homespun')

-- { buf, row, col, tail, insert, command }: `insert` stands from (row, col) on, in bytes from 0; what has been typed of it
-- since is counted anew each time. `tail` is the number of bytes right of the cursor that it takes the place of.
local shown = nil
-- { client, id }: the request under way. There is one at most.
local pending = nil
-- Where and of which text was asked last.
local asked = nil

M.enabled = true

local function cursor()
  local at = api.nvim_win_get_cursor(0)
  return at[1] - 1, at[2]
end

-- What of the suggestion is still to come at the cursor; nil if nothing is, or it is about something else by now.
local function rest()
  local row, col = cursor()
  if not shown or shown.buf ~= api.nvim_get_current_buf() or row < shown.row or (row == shown.row and col < shown.col) then
    return nil
  end
  local is_there, typed = pcall(api.nvim_buf_get_text, 0, shown.row, shown.col, row, col, {})
  local left = is_there and text.rest(shown.insert, table.concat(typed, '\n')) or '' -- its line may be shorter by now
  return left ~= '' and left or nil
end

local function hide()
  api.nvim_buf_clear_namespace(shown and api.nvim_buf_is_valid(shown.buf) and shown.buf or 0, namespace, 0, -1)
end

local function draw(left)
  local row, col = cursor()
  local tab = (' '):rep(vim.bo.tabstop)
  local lines = vim.split((left:gsub('\t', tab)), '\n', { plain = true })
  local covered = api.nvim_get_current_line():sub(col + 1, col + shown.tail)
  local padding = (' '):rep(math.max(0, vim.fn.strdisplaywidth(covered) - vim.fn.strdisplaywidth(lines[1])))
  local further = vim.tbl_map(function(line)
    return { { line, 'HomespunGhost' } }
  end, vim.list_slice(lines, 2))
  api.nvim_buf_set_extmark(0, namespace, row, col, {
    virt_text = { { lines[1] .. padding, 'HomespunGhost' } },
    virt_text_pos = shown.tail > 0 and 'overlay' or 'inline',
    virt_lines = #further > 0 and further or nil,
    hl_mode = 'combine',
  })
end

local function redraw()
  hide()
  local left = rest()
  if left then
    draw(left)
  else
    shown = nil
  end
end

local function cancel()
  if pending then
    client.cancel(pending.client, pending.id)
    pending = nil
  end
end

function M.dismiss()
  cancel()
  hide()
  shown = nil
end

local function take(item, buf)
  local from, to = item.range.start, item.range['end'] -- on one line, in bytes
  local line = api.nvim_buf_get_lines(buf, from.line, from.line + 1, false)[1]
  if line and from.character <= #line then
    shown = {
      buf = buf,
      row = from.line,
      col = from.character,
      tail = to.character - from.character,
      insert = item.insertText,
      command = item.command,
    }
  end
end

local function answered(result, buf)
  local item = result.items and result.items[1] or result[1]
  if api.nvim_get_current_buf() ~= buf or api.nvim_get_mode().mode:sub(1, 1) ~= 'i' then
    return
  end
  hide()
  shown = nil
  if item then
    take(item, buf)
    redraw()
  end
end

-- Ask the server; kind 1 is for somebody who asked by a key, 2 for somebody who types.
local function ask(kind)
  cancel()
  local server, buf = client.of(), api.nvim_get_current_buf()
  if not server then
    return
  end
  local params = vim.lsp.util.make_position_params(0, server.offset_encoding)
  params.context = { triggerKind = kind }
  local id
  local sent, number = client.request(server, 'textDocument/inlineCompletion', params, function(problem, result)
    if not pending or pending.id ~= id then
      return -- a newer one has been sent
    end
    pending = nil
    if not problem and type(result) == 'table' then
      answered(result, buf)
    end
  end, buf)
  id = number
  pending = sent and { client = server, id = number } or nil
end

-- A key was typed, or the cursor moved, in insert mode.
local function changed()
  local row, col = cursor()
  local now = { api.nvim_get_current_buf(), api.nvim_buf_get_changedtick(0), row, col }
  if vim.deep_equal(now, asked) then
    return -- one key gives several events
  end
  local is_typed = not asked or asked[1] ~= now[1] or asked[2] ~= now[2]
  asked = now
  if not is_typed then
    return M.dismiss() -- the cursor alone moved
  end
  redraw()
  if not shown and M.enabled and vim.b.homespun ~= false then
    ask(2)
  end
end

function M.left()
  asked = nil
  M.dismiss()
end

-- Ask now, whatever is set.
function M.trigger()
  ask(1)
end

-- What is on screen; nil if nothing is.
function M.visible()
  return rest()
end

local function insert(piece, tail)
  local row, col = cursor()
  local lines = vim.split(piece, '\n', { plain = true })
  api.nvim_buf_set_text(0, row, col, row, math.min(col + tail, #api.nvim_get_current_line()), lines)
  api.nvim_win_set_cursor(0, { row + #lines, (#lines == 1 and col or 0) + #lines[#lines] })
end

-- Put `part` of what is still to come into the text. False if nothing is on screen.
function M.accept(part)
  local left = rest()
  if not left then
    return false
  end
  vim.schedule(function() -- a key that is mapped by an expression may not change the text
    left = rest()
    if not left then
      return
    end
    local piece, taken = part(left), shown
    if #piece < #left then
      insert(piece, 0)
      return redraw()
    end
    insert(piece, taken.tail)
    M.dismiss()
    if taken.command then
      client.run(taken.command.command, taken.command.arguments)
    end
  end)
  return true
end

function M.setup()
  api.nvim_set_hl(0, 'HomespunGhost', { link = 'Comment', default = true })
  local group = api.nvim_create_augroup('homespun.ghost', {})
  api.nvim_create_autocmd({ 'InsertEnter', 'TextChangedI', 'TextChangedP', 'CursorMovedI' }, {
    group = group,
    callback = changed,
  })
  api.nvim_create_autocmd({ 'InsertLeave', 'BufLeave' }, { group = group, callback = M.left })
end

return M
