# What a user of Terraform keeps in Lambda: one of everything that the provider knows and Lambent takes.
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" { type = string }
variable "runtime" { type = string }
variable "stage" { default = "test" }

provider "aws" {
  region     = "us-east-1"
  access_key = "terraform"
  secret_key = "terraform"
  endpoints {
    cloudwatchlogs = var.endpoint
    iam            = var.endpoint
    lambda         = var.endpoint
    sts            = var.endpoint
  }
}

resource "aws_iam_role" "runs" {
  name = "terraform-runs"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "lambda.amazonaws.com" } }]
  })
  description          = "runs ${var.stage}"
  max_session_duration = var.stage == "test" ? 3600 : 7200
  permissions_boundary = aws_iam_policy.more.arn
  tags                 = { team = "green" }
}

resource "aws_iam_role_policy" "may" {
  name = "may"
  role = aws_iam_role.runs.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "logs:*", Resource = "*" }]
  })
}

resource "aws_iam_policy" "more" {
  name = "more"
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "s3:GetObject", Resource = "arn:aws:s3:::${var.stage}/*" }]
  })
  tags = { stage = var.stage }
}

resource "aws_iam_role_policy_attachment" "more" {
  role       = aws_iam_role.runs.name
  policy_arn = aws_iam_policy.more.arn
}

resource "aws_iam_role_policy_attachment" "basic" {
  role       = aws_iam_role.runs.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

resource "aws_lambda_layer_version" "greeting" {
  layer_name          = "terraform-greeting"
  filename            = "layer.zip"
  source_code_hash    = filebase64sha256("layer.zip")
  compatible_runtimes = [var.runtime]
}

resource "aws_lambda_layer_version_permission" "all" {
  layer_name     = aws_lambda_layer_version.greeting.layer_name
  version_number = aws_lambda_layer_version.greeting.version
  statement_id   = "all"
  action         = "lambda:GetLayerVersion"
  principal      = "*"
}

resource "aws_lambda_function" "greeter" {
  function_name                  = "terraform-greeter"
  role                           = aws_iam_role.runs.arn
  runtime                        = var.runtime
  handler                        = "app.handler"
  filename                       = "code.zip"
  source_code_hash               = filebase64sha256("code.zip")
  layers                         = [aws_lambda_layer_version.greeting.arn]
  memory_size                    = 256
  timeout                        = 7
  publish                        = true
  reserved_concurrent_executions = 5
  environment {
    variables = { STAGE = var.stage }
  }
  ephemeral_storage {
    size = 600
  }
  tracing_config {
    mode = "Active"
  }
  tags = { team = "green" }
}

resource "aws_cloudwatch_log_group" "settings" {
  name              = "/terraform/settings"
  retention_in_days = var.stage == "test" ? 7 : 14
  tags              = { stage = var.stage }
}

resource "aws_lambda_function" "settings" {
  function_name           = "terraform-settings"
  role                    = aws_iam_role.runs.arn
  runtime                 = var.runtime
  handler                 = "app.handler"
  filename                = "code.zip"
  publish                 = true
  description             = "stage ${var.stage}"
  kms_key_arn             = "arn:aws:kms:us-east-1:000000000000:key/11111111-1111-1111-1111-111111111111"
  code_signing_config_arn = aws_lambda_code_signing_config.signers.arn
  dynamic "snap_start" { # which older versions of Python do not have
    for_each = contains(["python3.12", "python3.13", "python3.14"], var.runtime) ? ["on"] : []
    content {
      apply_on = "PublishedVersions"
    }
  }
  vpc_config {
    subnet_ids         = ["subnet-0123456789abcdef0"]
    security_group_ids = ["sg-0123456789abcdef0"]
  }
  dead_letter_config {
    target_arn = "arn:aws:sqs:us-east-1:000000000000:letters"
  }
  logging_config {
    log_format            = "JSON"
    application_log_level = "DEBUG"
    system_log_level      = "INFO" # without it AWS's answer makes a plan that is never empty
    log_group             = aws_cloudwatch_log_group.settings.name
  }
}

resource "aws_lambda_event_source_mapping" "stream" {
  event_source_arn               = "arn:aws:kinesis:us-east-1:000000000000:stream/orders"
  function_name                  = aws_lambda_function.settings.arn
  starting_position              = "LATEST"
  batch_size                     = var.stage == "test" ? 50 : 60
  maximum_retry_attempts         = 3
  bisect_batch_on_function_error = true
  filter_criteria {
    filter {
      pattern = jsonencode({ data = { kind = ["order"] } })
    }
  }
  tags = { stage = var.stage }
}

data "aws_lambda_function" "settings" {
  function_name = aws_lambda_function.settings.function_name
  qualifier     = aws_lambda_function.settings.version
}

data "aws_lambda_functions" "all" {
  depends_on = [aws_lambda_function.settings]
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.greeter.function_name
  function_version = aws_lambda_function.greeter.version
  description      = "what callers get"
}

resource "aws_lambda_permission" "bucket" {
  statement_id   = "bucket"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.greeter.function_name
  qualifier      = aws_lambda_alias.live.name
  principal      = "s3.amazonaws.com"
  source_arn     = "arn:aws:s3:::bucket"
  source_account = "000000000000"
}

# Since October 2025 a URL that anyone may call needs leave for both actions.
resource "aws_lambda_permission" "url" {
  statement_id           = "url"
  action                 = "lambda:InvokeFunctionUrl"
  function_name          = aws_lambda_function.greeter.function_name
  qualifier              = aws_lambda_alias.live.name
  principal              = "*"
  function_url_auth_type = "NONE"
}

resource "aws_lambda_permission" "over_url" {
  statement_id  = "over-url"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.greeter.function_name
  qualifier     = aws_lambda_alias.live.name
  principal     = "*"
}

resource "aws_lambda_function_url" "open" {
  function_name      = aws_lambda_function.greeter.function_name
  qualifier          = aws_lambda_alias.live.name
  authorization_type = "NONE"
  cors {
    allow_origins = ["https://example.com"]
    max_age       = 60
  }
}

resource "aws_lambda_function_event_invoke_config" "retries" {
  function_name                = aws_lambda_function.greeter.function_name
  qualifier                    = aws_lambda_alias.live.name
  maximum_retry_attempts       = 1
  maximum_event_age_in_seconds = 120
}

resource "aws_lambda_provisioned_concurrency_config" "ready" {
  function_name                     = aws_lambda_function.greeter.function_name
  qualifier                         = aws_lambda_alias.live.name
  provisioned_concurrent_executions = 1
}

resource "aws_lambda_event_source_mapping" "queue" {
  event_source_arn = "arn:aws:sqs:us-east-1:000000000000:orders"
  function_name    = aws_lambda_alias.live.arn
  batch_size       = 5
}

resource "aws_lambda_code_signing_config" "signers" {
  allowed_publishers {
    signing_profile_version_arns = ["arn:aws:signer:us-east-1:000000000000:/signing-profiles/team/abcdefghij"]
  }
}

resource "aws_lambda_runtime_management_config" "auto" {
  function_name     = aws_lambda_function.greeter.function_name
  update_runtime_on = "FunctionUpdate"
}

resource "aws_lambda_function_recursion_config" "allow" {
  function_name  = aws_lambda_function.greeter.function_name
  recursive_loop = "Allow"
}

output "url" { value = aws_lambda_function_url.open.function_url }

output "version" { value = aws_lambda_alias.live.function_version }
