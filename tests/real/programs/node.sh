# needs: node
cat >w.js <<'X'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const fs = require('fs'), http = require('http'), { execFileSync } = require('child_process');
if (!isMainThread) { let s = 0; for (let i = 0; i < 1e6; i++) s += i % (workerData + 1); parentPort.postMessage(s); }
else (async () => {
  const all = await Promise.all([0, 1, 2, 3, 4].map(n => new Promise((ok, no) => { const w = new Worker(__filename, { workerData: n }); w.on('message', ok); w.on('error', no); })));
  console.log(all.join(' '));
  fs.writeFileSync('f', 'text'); console.log((await fs.promises.readFile('f')).toString());
  console.log(execFileSync('sh', ['-c', 'echo child']).toString().trim());
  const s = http.createServer((q, r) => r.end('hello ' + q.url)).listen(0, '127.0.0.1', async () => {
    const got = await Promise.all([...Array(20).keys()].map(i => new Promise(ok => http.get({ port: s.address().port, path: '/' + i }, r => { let b = ''; r.on('data', d => b += d); r.on('end', () => ok(b)); }))));
    console.log(got.join(',')); s.close();
  });
})();
X
node w.js && node -e "console.log(require('os').cpus().length > 0)"
