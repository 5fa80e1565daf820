// A push client on Node's own http2: sends as many pushes as it is told, as many at once as SETTINGS allow,
// and prints what became of them as one JSON object. Its arguments: port, CA file, provider token, count.
'use strict'
const http2 = require('node:http2')
const fs = require('node:fs')

const [port, ca, token, count] = process.argv.slice(2)
const session = http2.connect(`https://localhost:${port}`, { ca: fs.readFileSync(ca) })
const answers = {}
let goaways = 0
let room = 1
let inFlight = 0
let sent = 0
let settled = 0

session.on('goaway', () => { goaways += 1 })
session.on('remoteSettings', (settings) => { room = settings.maxConcurrentStreams; fill() })
session.on('error', (error) => { console.error(error); process.exitCode = 1 })

function note (what) {
  answers[what] = (answers[what] || 0) + 1
  inFlight -= 1
  settled += 1
  if (settled === Number(count)) {
    console.log(JSON.stringify({ answers, goaways }))
    session.close()
  } else {
    fill()
  }
}

function push (number) {
  const device = (number % 10 === 9 ? 'dead410000' : '00').padEnd(56, '0') + number.toString(16).padStart(8, '0')
  const stream = session.request({
    ':method': 'POST',
    ':path': `/3/device/${device}`,
    authorization: `bearer ${token}`,
    'apns-topic': 'com.example.app',
    'apns-push-type': 'alert'
  })
  let status = 0
  let body = ''
  stream.setEncoding('utf8')
  stream.on('response', (headers) => { status = headers[':status'] })
  stream.on('data', (piece) => { body += piece })
  stream.on('error', () => {})
  stream.on('close', () => note(stream.rstCode ? `reset ${stream.rstCode}` : `${status} ${body && JSON.parse(body).reason}`.trim()))
  stream.end(JSON.stringify({ aps: { alert: `push ${number}` } }))
}

function fill () {
  while (inFlight < room && sent < Number(count)) {
    inFlight += 1
    push(sent)
    sent += 1
  }
}
