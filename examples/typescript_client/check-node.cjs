// `npm test` runs this first. With an older Node.js, the tests would fail later, and the message would not say why.

const needed = Number(require("./package.json").engines.node.replace(">=", ""));
if (parseInt(process.versions.node) < needed) {
  console.error(`This example needs Node.js ${needed} or newer, and this is Node.js ${process.versions.node}.`);
  process.exit(1);
}
