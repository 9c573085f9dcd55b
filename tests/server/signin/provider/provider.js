// A certified OpenID provider, with people and keys for tests. Commands come by stdin, one JSON object a line; each is
// answered by a line once it holds.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const people = {};
let callback;

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

function newProvider(issuer, client) {
  const provider = new Provider(issuer, {
    clients: [client],
    jwks: { keys: [newKey()] },
    claims: { openid: ['sub'], profile: ['preferred_username', 'name'], email: ['email', 'email_verified'], groups: ['groups'] },
    scopes: ['openid', 'profile', 'email', 'groups'],
    cookies: { keys: [randomUUID()] },
    pkce: { required: () => true },
    findAccount: (ctx, id) => people[id] && { accountId: id, claims: () => ({ sub: id, ...people[id] }) },
  });
  provider.on('server_error', (ctx, error) => console.error(error));
  return provider.callback();
}

const server = createServer((request, response) => callback(request, response));
const commands = {
  start({ port, client }) {
    callback = newProvider(`http://localhost:${port}`, client);
  },
  person({ id, claims }) {
    people[id] = claims;
  },
};

server.listen(0, 'localhost', () => {
  const { port } = server.address();
  console.log(JSON.stringify({ port }));
  createInterface({ input: process.stdin })
    .on('line', (line) => {
      const { command, ...values } = JSON.parse(line);
      commands[command]({ port, ...values });
      console.log(JSON.stringify({ done: command }));
    })
    .on('close', () => process.exit());
});
