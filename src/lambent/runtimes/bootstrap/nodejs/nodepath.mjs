// Resolution of bare specifiers through the folders of NODE_PATH, for Node.js versions whose hooks run on a thread of
// their own (before 22.15); newer ones do the same in handler.cjs.

let parents = [];

export function initialize(data) {
  parents = data.parents;
}

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    if (error?.code !== "ERR_MODULE_NOT_FOUND" || /^[./]|^\w+:/.test(specifier)) throw error;
    for (const parentURL of parents) {
      try {
        return await next(specifier, { ...context, parentURL });
      } catch {
        continue;
      }
    }
    throw error;
  }
}
