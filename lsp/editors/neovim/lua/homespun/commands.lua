-- What `:Homespun` can do.
local client = require('homespun.client')
local homespun = require('homespun')

local function say(line, level)
  vim.notify('Homespun: ' .. line, level or vim.log.levels.INFO)
end

-- Where the server says so; only web addresses are opened.
local function verify(answer)
  if type(answer) ~= 'table' or type(answer.userCode) ~= 'string' then
    return
  end
  local address = answer.verificationUriComplete or answer.verificationUri
  if type(address) == 'string' and address:match('^https?://') then
    say(('enter the code %s at %s'):format(answer.userCode, answer.verificationUri or address))
    vim.ui.open(address)
  end
end

local function run(command, done)
  client.run(command, nil, function(result, problem)
    local status = type(result) == 'table' and result.status
    if problem or status == 'Error' then
      say(problem or result.message or 'the server did not say why', vim.log.levels.ERROR)
    elseif status == 'AlreadySignedIn' then
      say('you are signed in already')
    elseif done then
      done(result)
    end
  end)
end

local M = {}

function M.status()
  local line = homespun.statusline()
  say(line == '' and 'the language server is not running in this buffer; see :checkhealth homespun' or line)
end

function M.enable()
  homespun.enable(true)
end

function M.disable()
  homespun.enable(false)
end

function M.toggle()
  homespun.enable(not homespun.is_enabled())
end

function M.signin()
  run('homespun.signIn', verify)
end

function M.signout()
  run('homespun.signOut')
end

function M.restart()
  client.restart()
end

function M.log()
  vim.cmd.tabedit(vim.fn.fnameescape(client.log_path()))
end

return M
