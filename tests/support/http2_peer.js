// An APNs-like server on Node's own HTTP/2 stack, with one fault by name. It checks what the client does:
// no stream over the limit that the client has acknowledged, and which ids were answered how often.
// usage: node http2_peer.js PORT CERTIFICATE KEY MODE REPORT; SIGTERM makes it write its report as JSON to the file and end.
'use strict';
const http2 = require('http2');
const fs = require('fs');
const [port, certificate, key, mode, report] = process.argv.slice(2);

const seen = { requests: 0, connections: 0, peak: 0, ids: {}, violations: [] };
const DELAY = 150; // milliseconds an answer takes, so that hundreds of streams are in flight

const MODES = {
  plain: {},
  // 1000 streams, then 1, then 1000 again, while hundreds are in flight.
  settings: {
    onRequest(session, count) {
      if (count % 900 === 700) session.mcmtLimit(1);
      if (count % 900 === 750) session.mcmtLimit(1000);
    },
  },
  // Every 700th request the session says goodbye: what came after the last stream processed is dropped.
  goaway: {
    onRequest(session, count, stream) {
      if (count % 700 === 699 && !session.lastProcessed) {
        session.lastProcessed = stream.id;
        session.goaway(0, stream.id, Buffer.from('{"reason":"Shutdown"}'));
      }
    },
    drops: (session, stream) => session.lastProcessed && stream.id > session.lastProcessed,
  },
  // Every 10th stream is refused unprocessed, once for each id.
  refuse: { refuses: (id, count) => count % 10 === 3 },
  // Every 50th stream is reset after it was processed: nobody can know.
  reset: { resets: (id, count) => count % 50 === 7 },
  // No room for bodies at first: streams open with an empty window, and only later it grows.
  'zero-window': { settings: { initialWindowSize: 0 }, reopenAfter: 100 },
};
const plan = MODES[mode];
if (!plan) throw new Error(`no mode ${mode}`);

const server = http2.createSecureServer({
  cert: fs.readFileSync(certificate),
  key: fs.readFileSync(key),
  settings: { maxConcurrentStreams: 1000, ...plan.settings },
  peerMaxConcurrentStreams: 1000,
});
const troubled = new Set();

server.on('session', (session) => {
  seen.connections += 1;
  session.count = 0;
  session.inFlight = 0;
  session.limit = 1000; // the one that the client has acknowledged
  session.mcmtLimit = (limit) => {
    // A lower limit binds once it is acknowledged, and then only what is opened from then on.
    session.settings({ maxConcurrentStreams: limit }, () => { session.limit = limit; });
    if (limit > session.limit) session.limit = limit;
  };
  session.on('error', () => {});
  if (plan.reopenAfter) {
    setTimeout(() => session.settings({ initialWindowSize: 65535 }), plan.reopenAfter);
  }
});

server.on('stream', (stream, headers) => {
  const session = stream.session;
  const id = headers['apns-id'];
  session.count += 1;
  session.inFlight += 1;
  seen.requests += 1;
  seen.peak = Math.max(seen.peak, session.inFlight);
  if (session.inFlight > session.limit) {
    seen.violations.push(`stream ${stream.id}: ${session.inFlight} open, ${session.limit} allowed`);
  }
  stream.on('error', () => {});
  stream.on('close', () => { session.inFlight -= 1; });
  if (plan.onRequest) plan.onRequest(session, session.count, stream);
  if (plan.drops && plan.drops(session, stream)) return;
  if (plan.refuses && !troubled.has(id) && plan.refuses(id, session.count)) {
    troubled.add(id);
    stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    return;
  }
  let length = 0;
  stream.on('data', (chunk) => { length += chunk.length; });
  stream.on('end', () => {
    if (plan.resets && !troubled.has(id) && plan.resets(id, session.count)) {
      troubled.add(id);
      seen.ids[id] = (seen.ids[id] || 0) + 1;
      stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
      return;
    }
    setTimeout(() => {
      if (stream.destroyed || stream.closed) return;
      seen.ids[id] = (seen.ids[id] || 0) + 1;
      stream.respond({ ':status': length > 0 ? 200 : 400, 'apns-id': id }, { endStream: true });
    }, DELAY);
  });
});

process.on('SIGTERM', () => {
  fs.writeFileSync(report, JSON.stringify(seen));
  process.exit(0);
});
server.listen(Number(port), '127.0.0.1');
