-- :checkhealth homespun
local client = require('homespun.client')

local M = {}
local health = vim.health

local function check_version()
  if vim.fn.has('nvim-0.10') == 1 then
    health.ok('Neovim ' .. tostring(vim.version()))
  else
    health.error('Neovim ' .. tostring(vim.version()) .. ' is too old', 'Homespun needs 0.10 or newer')
  end
end

local function check_command()
  local program = (client.config.cmd or { 'homespun' })[1]
  if vim.fn.executable(program) == 1 then
    health.ok(('%s: %s'):format(program, vim.fn.exepath(program)))
  else
    health.error(program .. ' is not there', "pip install 'homespun[lsp]', or name it: setup({ cmd = { … } })")
  end
end

local function check_server()
  local clients = vim.lsp.get_clients({ name = 'homespun' })
  if #clients == 0 then
    health.warn('the language server is not running', "call require('homespun').setup() and open a file")
    return
  end
  local status = client.status
  local line = 'the language server is running: ' .. (status.message ~= '' and status.message or 'ready')
  if status.kind == 'Normal' then
    health.ok(line)
  else
    health.warn(line)
  end
end

local function check_key()
  local key = (client.config.keys or {}).accept
  if key == false then
    return
  end
  local map = vim.fn.maparg(key or '<Tab>', 'i', false, true)
  if (map.desc or ''):match('^Homespun') then
    health.ok((key or '<Tab>') .. ' accepts a suggestion')
  else
    health.warn(
      (key or '<Tab>') .. ' belongs to something else',
      'let it call require("homespun").accept(), or set another: setup({ keys = { accept = "<C-y>" } })'
    )
  end
end

function M.check()
  health.start('Homespun')
  check_version()
  check_command()
  check_server()
  check_key()
  health.info('log: ' .. client.log_path())
end

return M
