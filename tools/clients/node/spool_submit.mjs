#!/usr/bin/env node
// Submits one task to a spool and waits for its end, with Node's own modules alone.
// usage: spool_submit.mjs SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]
// exit:  0 done, 1 failed, 2 cancelled, 64 usage, 65 refused, 74 I/O error, 75 not over in time
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const quit = (code, text) => { console.error(`spool_submit: ${text}`); process.exit(code); };
process.on("uncaughtException", (error) => quit(74, error.message)); // not Node's 1, which means the task failed

const [spool, task, args, timeout = "30", ...more] = process.argv.slice(2);
if (args === undefined || more.length) quit(64, "usage: spool_submit.mjs SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]");
if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(task)) quit(64, `not a task name: ${task}`);
if (!/^[0-9]{1,6}$/.test(timeout)) quit(64, `not a whole number of seconds below 1000000: ${timeout}`);
if (args.includes("\ufffd")) quit(65, "JSON_ARGS must be UTF-8; write U+FFFD as \\ufffd"); // Node's for other bytes
try { process.chdir(spool); } catch (error) { quit(64, error.message); } // from here on, paths are the spool's
const isSpool = fs.existsSync("format") && fs.readFileSync("format", "utf8") === "spool 1\n";
if (!isSpool) quit(64, `not a spool of format 1: ${spool}`);

// 1. The id, a UUIDv7: 48 bits of milliseconds, version 7, 12 random bits, variant 10, 62 random bits.
const now = Date.now();
const bytes = randomBytes(16);
bytes.writeUIntBE(now, 0, 6);
bytes[6] = (bytes[6] & 0x0f) | 0x70;
bytes[8] = (bytes[8] & 0x3f) | 0x80;
const id = bytes.toString("hex");

// 2. Write the action under a hidden name and sync it. What a crash leaves in tmp/ is ignored and aged out.
const file = fs.openSync(`tmp/.${id}`, "wx", 0o600);
fs.writeFileSync(file, `{"id":"${id}","task":"${task}","args":${args}}\n`);
fs.fsyncSync(file);
fs.closeSync(file);

// 3. Rename: now, and complete, it is visible. Sync the name too; a shared incoming/ may not let us open it.
fs.renameSync(`tmp/.${id}`, `incoming/${id}.json`);
try {
  const dir = fs.openSync("incoming", "r");
  fs.fsyncSync(dir);
  fs.closeSync(dir);
} catch (error) {
  if (error.code !== "EACCES") throw error;
}
fs.writeFileSync(1, `${id}\n`);

// 4. Look for the id in the terminal states, where it stands between commas, and among what was refused.
function names(dir) { // directories are made when they are needed
  try { return fs.readdirSync(dir); } catch (error) { if (error.code === "ENOENT") return []; throw error; }
}
function find(state, matches) { // state/DATE/NAME
  const inDate = (date) => names(`${state}/${date}`).filter(matches).map((name) => `${state}/${date}/${name}`);
  return names(state).flatMap(inDate);
}
function newestRecord() { // attempts/DATE/ID.N.json, DATE the date inside the id, N the highest: it may skip
  const dir = `attempts/${new Date(now).toISOString().slice(0, 10)}`;
  const numbers = names(dir).filter((name) => name.startsWith(`${id}.`)).map((name) => Number(name.split(".")[1]));
  return fs.readFileSync(`${dir}/${id}.${Math.max(...numbers)}.json`, "utf8").trim();
}
const entry = (name) => name.includes(`,${id},`);
const giveUp = performance.now() + Number(timeout) * 1000;
for (let pause = 5; ; pause = Math.min(pause * 2, 200)) {
  if (find("done", entry).length) { fs.writeFileSync(1, `${newestRecord()}\n`); process.exit(0); }
  if (find("failed", entry).length) process.exit(1);
  if (find("cancelled", entry).length) process.exit(2);
  const refused = find("rejected", (name) => name.startsWith(id));
  const reasons = refused.filter((path) => path.endsWith(".reason.json"));
  for (const path of reasons) console.error(fs.readFileSync(path, "utf8").trim());
  if (refused.length) process.exit(65);
  if (performance.now() >= giveUp) quit(75, `not over after ${timeout} s; the task goes on`);
  await sleep(pause);
}
