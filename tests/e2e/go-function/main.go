// A function in Go as AWS's library has it: the handler, the context, a panic, and a reader as a streamed response.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Do   string `json:"do"`
	Text string `json:"text"`
}

func handle(ctx context.Context, asked event) (any, error) {
	known, _ := lambdacontext.FromContext(ctx)
	deadline, bounded := ctx.Deadline()
	fmt.Println("go was asked to", asked.Do)
	switch asked.Do {
	case "fail":
		return nil, errors.New(asked.Text)
	case "panic":
		panic(asked.Text)
	case "stream":
		return strings.NewReader(asked.Text), nil
	}
	return map[string]any{
		"text": asked.Text, "id": known.AwsRequestID, "arn": known.InvokedFunctionArn, "bounded": bounded,
		"deadline": deadline.UnixMilli(), "name": lambdacontext.FunctionName, "memory": lambdacontext.MemoryLimitInMB,
	}, nil
}

func main() {
	lambda.Start(handle)
}
