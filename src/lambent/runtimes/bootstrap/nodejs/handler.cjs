"use strict";
// From a handler string to a function: AWS's rules for CommonJS and ES modules (fact sheet 17.2).

const fs = require("node:fs");
const { createRequire } = require("node:module");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const { runtimeError } = require("./errors.cjs");
const { streams } = require("./streaming.cjs");

// What requires the function's module has this name on AWS; it stands in the message for a module that is missing.
const requireHandler = createRequire(path.join(__dirname, "index.mjs"));
const MAJOR = Number(process.versions.node.split(".")[0]);
const CALLBACKS_REMOVED =
  "ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to " +
  "modify this function to use a supported handler signature to use Node.js 24 or later. For more information see " +
  "https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.";
const CALLBACKS_END =
  "AWS Lambda plans to remove support for callback-based function handlers starting with Node.js 24. You will need to " +
  "update this function to use an async handler to use Node.js 24 or later. For more information and to provide feedback " +
  "on this change, see https://github.com/aws/aws-lambda-nodejs-runtime-interface-client/issues/137. To disable this " +
  "warning, set the AWS_LAMBDA_NODEJS_DISABLE_CALLBACK_WARNING environment variable.";

/** The function that a handler string names below `root`. Throws errors named Runtime.*, or what the module throws. */
async function load(root, handler) {
  if (handler.includes(".."))
    throw runtimeError(
      "MalformedHandlerName",
      `'${handler}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  const slash = handler.lastIndexOf("/");
  const [, name, exported] = /^([^.]*)\.(.*)$/.exec(handler.slice(slash + 1)) ?? [];
  if (exported === undefined) throw runtimeError("MalformedHandlerName", "Bad handler");
  const loaded = await loadModule(root, handler.slice(0, slash + 1), name);
  const found = pick(loaded, exported) || (MAJOR >= 24 && pick(loaded?.default, exported));
  if (!found) throw runtimeError("HandlerNotFound", `${handler} is undefined or not exported`);
  if (typeof found !== "function") throw runtimeError("HandlerNotFound", `${handler} is not a function`);
  if (!streams(found)) judgeCallback(found);
  return found;
}

/** A handler with three parameters means to call back. */
function judgeCallback(handler) {
  if (MAJOR >= 24) {
    if (handler.length >= 3) throw runtimeError("CallbackHandlerDeprecated", CALLBACKS_REMOVED);
  } else if (handler.length === 3 && handler.constructor?.name !== "AsyncFunction" &&
             process.env.AWS_LAMBDA_NODEJS_DISABLE_CALLBACK_WARNING === undefined)
    console.warn(CALLBACKS_END);
}

function pick(object, exported) {
  return exported.split(".").reduce((value, key) => (value === null || value === undefined ? value : value[key]), object);
}

async function loadModule(root, folder, name) {
  const stem = path.resolve(root, folder, name);
  try {
    // Up to 22 whatever has the name is required, a folder too, which then hides an ES module beside it.
    if (MAJOR >= 24 ? isFile(stem) : fs.existsSync(stem)) return requireHandler(stem);
    const file = stem + ".js";
    if (isFile(file)) return (await isModule(file)) ? await importFile(file) : requireHandler(file);
    if (isFile(stem + ".mjs")) return await importFile(stem + ".mjs");
    if (isFile(stem + ".cjs")) return requireHandler(stem + ".cjs");
    return requireHandler(requireHandler.resolve(name, { paths: [root, path.resolve(root, folder)] }));
  } catch (error) {
    if (error instanceof SyntaxError) {
      const failure = runtimeError("UserCodeSyntaxError", String(error));
      failure.stack = error.stack; // it names the line
      throw failure;
    }
    if (error?.code === "MODULE_NOT_FOUND") throw runtimeError("ImportModuleError", String(error));
    throw error;
  }
}

function isFile(file) {
  return fs.statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
}

/** Whether a .js file is an ES module: the nearest package.json says so. From 24 on also by its syntax, as Node does. */
async function isModule(file) {
  if (MAJOR >= 24) return true; // import() takes both kinds
  for (let folder = path.dirname(file); !folder.endsWith("/node_modules"); folder = path.dirname(folder)) {
    const manifest = path.join(folder, "package.json");
    if (isFile(manifest)) {
      try {
        return JSON.parse(fs.readFileSync(manifest, "utf8"))?.type === "module";
      } catch (error) {
        console.warn(`${manifest} is not valid JSON; ${path.basename(file)} is loaded as CommonJS`, error);
        return false;
      }
    }
    if (folder === path.dirname(folder)) break;
  }
  return false;
}

function importFile(file) {
  resolveFromNodePath();
  return import(pathToFileURL(file).href);
}

/** ES modules do not look at NODE_PATH by themselves; on AWS they find the SDK and layers there. */
function resolveFromNodePath() {
  const folders = (process.env.NODE_PATH ?? "").split(":").filter((folder) => folder.endsWith("/node_modules"));
  const present = folders.filter((folder) => fs.existsSync(folder));
  if (present.length === 0) return;
  const parents = present.map((folder) => pathToFileURL(path.join(folder, "..", "module.mjs")).href);
  const module = require("node:module");
  if (typeof module.registerHooks === "function") {
    const resolve = (specifier, context, next) => {
      try {
        return next(specifier, context);
      } catch (error) {
        if (error?.code !== "ERR_MODULE_NOT_FOUND" || /^[./]|^\w+:/.test(specifier)) throw error;
        for (const parentURL of parents) {
          try {
            return next(specifier, { ...context, parentURL });
          } catch {
            continue;
          }
        }
        throw error;
      }
    };
    module.registerHooks({ resolve });
  } else {
    const hooks = pathToFileURL(path.join(__dirname, "nodepath.mjs")).href;
    module.register(hooks, { data: { parents } });
  }
}

module.exports = { load, MAJOR };
