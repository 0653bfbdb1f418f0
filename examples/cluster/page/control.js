// The nodes and Redis as the supervisor sees them, and the buttons.
const EVERY = 500; // ms
const $ = (id) => document.getElementById(id);

/** colored gives an element the color of a node. */
export function colored(target, name) {
  const number = Number(/\d+$/.exec(name ?? "")?.[0] ?? 0);
  target.style.setProperty("--hue", (200 + number * 137) % 360);
  return target;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const press = (path) => fetch("/cluster/" + path, { method: "POST" }).then(look, () => {});

// buttons shows those that do something now. One that stays is not made anew, nor
// moved, so that it keeps the focus.
function buttons(holder, path, wanted) {
  for (const one of [...holder.children]) if (!(one.dataset.do in wanted)) one.remove();
  let next = null;
  for (const [what, [label, title]] of Object.entries(wanted).reverse()) {
    let one = holder.querySelector(`[data-do=${what}]`);
    if (!one) {
      one = element("button", what === "kill" || what === "flush" ? "harsh" : "", label);
      one.type = "button";
      one.dataset.do = what;
      one.title = title;
      one.addEventListener("click", () => press(`${path}/${what}`));
      holder.insertBefore(one, next);
    }
    next = one;
  }
}

const places = new Map(); // node's name -> its element

function place(name) {
  let made = places.get(name);
  if (made) return made;
  made = colored(element("div", "place node"), name);
  made.dataset.name = name;
  const top = element("div", "top");
  top.append(element("strong", "", name), element("span", "status"), element("span", "mine", "this tab"));
  made.append(top, element("p", "figure"), element("div", "buttons"));
  places.set(name, made);
  $("nodes").append(made);
  return made;
}

function showNode(node, mine) {
  const at = place(node.name);
  const silent = node.state === "up" && node.refuses;
  const status = silent ? "refuses" : node.state;
  const broker = node.broker?.state ?? node.broker ?? "";
  at.dataset.status = status;
  at.classList.toggle("this", node.name === mine);
  at.querySelector(".status").dataset.status = status;
  at.querySelector(".status").textContent = status;
  const running = node.state === "up" || node.state === "draining";
  at.dataset.broker = running ? broker : "";
  at.querySelector(".figure").textContent = running
    ? `${node.connections} connection${node.connections === 1 ? "" : "s"}${typeof broker === "string" && broker ? ` · Redis ${broker}` : ""}${node.cut ? " · cut off" : ""}`
    : "takes no connections";
  const wanted = {};
  if (node.state === "dead") wanted.start = ["Start", "Start the process again"];
  if (node.state === "up") wanted.drain = ["Drain", "SIGTERM: its clients are sent away politely, then it ends"];
  if (running) wanted.kill = ["Kill", "kill -9: no goodbye to anybody"];
  if (running && node.door) {
    if (node.cut) wanted.heal = ["Reconnect", "Its connections to Redis work again"];
    else wanted.cut = ["Cut from Redis", "Its connections to Redis are reset, and new ones refused"];
  }
  buttons(at.querySelector(".buttons"), `nodes/${node.name}`, wanted);
}

function showRedis(redis) {
  const status = $("redis").querySelector(".status");
  status.dataset.status = redis.state;
  status.textContent = redis.ours ? redis.state : "not started by this program";
  const wanted = {};
  if (redis.ours) {
    if (redis.state === "up") {
      wanted.pause = ["Pause", "SIGSTOP: it answers nobody, and its connections stay"];
      wanted.flush = ["Flush", "FLUSHALL: history and documents are gone"];
    }
    if (redis.state === "paused") wanted.resume = ["Resume", "SIGCONT"];
    if (redis.state === "dead") wanted.start = ["Start", "With all that it had acknowledged"];
    else wanted.kill = ["Kill", "kill -9"];
  }
  buttons($("redis").querySelector(".buttons"), "redis", wanted);
}

let mine = null;
let timer = 0;

/** at tells on which node this tab is, null for none. */
export function at(name) {
  mine = name;
  look();
}

/** look asks the supervisor, now and from then on. */
export async function look() {
  clearTimeout(timer);
  try {
    const state = await (await fetch("/cluster/state", { signal: AbortSignal.timeout(3000) })).json();
    document.body.classList.remove("gone");
    for (const node of state.nodes) showNode(node, mine);
    showRedis(state.redis);
  } catch {
    document.body.classList.add("gone");
  }
  clearTimeout(timer);
  timer = setTimeout(look, EVERY);
}
