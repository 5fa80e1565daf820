// node-apn 1.x as an old application uses it: node old_node_sender.js LIBRARY ADDRESS PORT CA CERT KEY.
// Device tokens come on standard input, one a line; "feedback PORT" asks the feedback service. One JSON line an event.
'use strict';

const readline = require('readline');

const [library, address, port, ca, cert, key] = process.argv.slice(2);
const apn = require(library);
const say = (event) => process.stdout.write(JSON.stringify(event) + '\n');
const credentials = { address, ca: [ca], cert, key, production: false };

const connection = new apn.Connection({ ...credentials, port: Number(port), cacheLength: 20000 });
connection.on('transmissionError', (code, notification, device) => {
  say({ event: 'error', code, token: device ? device.toString() : null, number: notification && notification.payload.number });
});
connection.on('error', (error) => say({ event: 'fault', text: String(error) }));
connection.on('socketError', (error) => say({ event: 'fault', text: String(error) }));
connection.on('completed', () => say({ event: 'completed' }));
connection.on('disconnected', () => say({ event: 'disconnected' }));

let number = 0;
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  if (line.startsWith('feedback ')) {
    const feedback = new apn.Feedback({ ...credentials, port: Number(line.slice(9)), interval: 0 });
    feedback.on('feedback', (devices) => {
      say({ event: 'feedback', tokens: devices.map(({ time, device }) => [time, device.toString()]) });
    });
    feedback.on('feedbackError', (error) => say({ event: 'fault', text: String(error) }));
    return;
  }
  const notification = new apn.Notification();
  notification.expiry = Math.floor(Date.now() / 1000) + 3600;
  notification.alert = 'You have mail';
  notification.payload = { number: number++ };
  connection.pushNotification(notification, new apn.Device(line));
}).on('close', () => process.exit(0));
