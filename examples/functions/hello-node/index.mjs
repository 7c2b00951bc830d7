// Says hello to the name in the event: an ES module with an async handler.
// Deploy with: lambent deploy examples/functions/hello-node --handler index.handler --runtime nodejs20.x --url

export const handler = async (event, context) => {
  const name = event.name ?? event.queryStringParameters?.name ?? "world";
  console.log("greeting", name);
  const answer = { message: `Hello, ${name}!`, remaining_ms: context.getRemainingTimeInMillis() };
  if (!event.requestContext) return answer;
  return { statusCode: 200, headers: { "content-type": "application/json" }, body: JSON.stringify(answer) };
};
