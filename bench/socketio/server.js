// The socket.io candidate. It speaks the control protocol of serve.go: one line
// of JSON with its address first, then one answer per order.
"use strict";
const http = require("node:http");
const readline = require("node:readline");
const { Server } = require("socket.io");

const server = http.createServer();
const io = new Server(server, { transports: ["websocket"] });
let members = 0;

io.on("connection", (socket) => {
  members++;
  socket.on("echo", (payload, reply) => reply(payload));
  socket.on("join", (room, reply) => {
    socket.join(room);
    reply();
  });
  socket.on("leave", (room, reply) => {
    socket.leave(room);
    reply();
  });
  socket.on("disconnect", () => members--);
});

function answer(value) {
  process.stdout.write(JSON.stringify(value) + "\n");
}

function report(gc) {
  if (gc) {
    global.gc();
    global.gc();
  }
  const used = process.resourceUsage();
  return {
    usage: {
      user_ns: used.userCPUTime * 1000,
      sys_ns: used.systemCPUTime * 1000,
      rss: process.memoryUsage.rss(),
      members,
    },
  };
}

server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => {
  answer({ addr: `127.0.0.1:${server.address().port}` });
});

const orders = readline.createInterface({ input: process.stdin });
orders.on("line", (line) => {
  const order = JSON.parse(line);
  answer(order.op === "report" ? report(order.gc) : { error: `cannot ${order.op}` });
});
orders.on("close", () => process.exit(0));
