// Push by @parse/node-apn: node node_apn.js FOLDER PORT COUNT PAYLOAD-FILE CA CERT KEY.
// FOLDER: whose node_modules hold it. Ten calls at a time with 100 tokens each: as many as there are streams, and fewer
// than make Node's session run out of its memory (ENHANCE_YOUR_CALM).
const fs = require('fs');
const path = require('path');
const [folder, port, count, payload, ca, cert, key] = process.argv.slice(2);
const apn = require(path.join(path.resolve(folder), 'node_modules', '@parse', 'node-apn'));

const LOT = 100;
const CALLS = 10;

(async () => {
  const provider = new apn.Provider({
    cert, key, ca: fs.readFileSync(ca), address: 'localhost', port: Number(port), production: true,
  });
  const notification = new apn.Notification();
  notification.topic = 'com.example.app';
  notification.pushType = 'alert';
  notification.priority = 10;
  notification.rawPayload = JSON.parse(fs.readFileSync(payload, 'utf8'));
  let next = 0;
  const oneAfterAnother = async () => {
    while (next < Number(count)) {
      const tokens = [];
      while (tokens.length < LOT && next < Number(count)) tokens.push((next++).toString(16).padStart(64, '0'));
      const result = await provider.send(notification, tokens);
      if (result.failed.length) {
        console.error(result.failed[0]);
        process.exit(1);
      }
    }
  };
  await Promise.all(Array.from({ length: CALLS }, oneAfterAnother));
  provider.shutdown();
})();
