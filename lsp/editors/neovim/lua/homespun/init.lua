-- Homespun for Neovim 0.10 and newer: starts the language server and shows its suggestions as ghost text.
local client = require('homespun.client')
local ghost = require('homespun.ghost')
local text = require('homespun.text')

local M = {}

-- Each is false if nothing is on screen, so that a key can do what it did before.
function M.accept()
  return ghost.accept(text.all)
end

function M.accept_word()
  return ghost.accept(text.word)
end

function M.accept_line()
  return ghost.accept(text.line)
end

M.dismiss = ghost.dismiss
M.trigger = ghost.trigger
M.visible = ghost.visible

function M.enable(wanted)
  ghost.enabled = wanted ~= false
  if not ghost.enabled then
    ghost.dismiss()
  end
  vim.cmd.redrawstatus()
end

function M.is_enabled()
  return ghost.enabled
end

-- For a status line; empty where there is no server.
function M.statusline()
  if not client.of() then
    return ''
  elseif not ghost.enabled or vim.b.homespun == false then
    return 'homespun off'
  elseif client.status.kind == 'Normal' then
    return client.status.busy and 'homespun …' or 'homespun'
  end
  return 'homespun: ' .. client.status.message
end

-- A key does what it did before where `run` has nothing to do.
local function map(key, run, description)
  if key then
    vim.keymap.set('i', key, function()
      return run() and '' or key
    end, { expr = true, desc = 'Homespun: ' .. description })
  end
end

local KEYS = { accept = '<Tab>', accept_word = '<C-Right>', accept_line = '<C-Down>' }

--- opts.cmd: command of the server, { 'homespun', 'lsp' } unless given
--- opts.settings: { serverUrl = ..., token = ... }, see ../README.md
--- opts.filetypes: only these; all unless given
--- opts.keys: { accept = '<Tab>', accept_word = '<C-Right>', accept_line = '<C-Down>' }, each of them false for none
function M.setup(opts)
  client.config = opts or {}
  local keys = vim.tbl_extend('force', KEYS, client.config.keys or {})
  map(keys.accept, M.accept, 'accept the suggestion')
  map(keys.accept_word, M.accept_word, 'accept a word of the suggestion')
  map(keys.accept_line, M.accept_line, 'accept a line of the suggestion')
  ghost.setup()
  local group = vim.api.nvim_create_augroup('homespun', {})
  local function on(events, run)
    vim.api.nvim_create_autocmd(events, {
      group = group,
      callback = function(event)
        run(event.buf)
      end,
    })
  end
  on({ 'FileType', 'BufWinEnter' }, client.attach)
  on({ 'BufEnter', 'CursorMoved' }, client.focus)
  client.attach(vim.api.nvim_get_current_buf())
end

return M
