// The services around, by AWS's SDK for JavaScript: a role is made, assumed and deleted; what is not offered says so.
import { CloudWatchClient, DescribeAlarmsCommand, GetMetricStatisticsCommand } from "@aws-sdk/client-cloudwatch";
import { DescribeInstancesCommand, DescribeSubnetsCommand, EC2Client } from "@aws-sdk/client-ec2";
import {
  CreateRoleCommand, DeleteRoleCommand, DeleteRolePolicyCommand, GetRoleCommand, IAMClient, ListUsersCommand,
  PutRolePolicyCommand, paginateListRoles,
} from "@aws-sdk/client-iam";
import { LambdaMicrovmsClient, ListMicrovmsCommand } from "@aws-sdk/client-lambda-microvms";
import { ServiceQuotasClient, GetServiceQuotaCommand } from "@aws-sdk/client-service-quotas";
import { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

const RoleName = process.argv[2];
const once = { maxAttempts: 1 };
const trust = { Effect: "Allow", Principal: { AWS: "000000000000" }, Action: "sts:AssumeRole" };
const lists = { Effect: "Allow", Action: "lambda:List*", Resource: "*" };
const document = statement => JSON.stringify({ Version: "2012-10-17", Statement: [statement] });
const refusal = promise => promise.then(() => null, error => [error.name, error.$metadata?.httpStatusCode]);

const iam = new IAMClient(once);
const sts = new STSClient(once);
const seen = { caller: (await sts.send(new GetCallerIdentityCommand({}))).Arn };

const made = await iam.send(new CreateRoleCommand({ RoleName, AssumeRolePolicyDocument: document(trust) }));
seen.created = made.Role.CreateDate instanceof Date;
await iam.send(new PutRolePolicyCommand({ RoleName, PolicyName: "p", PolicyDocument: document(lists) }));
seen.trust = JSON.parse(decodeURIComponent((await iam.send(new GetRoleCommand({ RoleName }))).Role.AssumeRolePolicyDocument));
seen.listed = false;
for await (const page of paginateListRoles({ client: iam, pageSize: 1 }, {})) {
  seen.listed ||= page.Roles.some(role => role.RoleName === RoleName);
}

const { Credentials } = await sts.send(new AssumeRoleCommand({ RoleArn: made.Role.Arn, RoleSessionName: "javascript" }));
const credentials = {
  accessKeyId: Credentials.AccessKeyId,
  secretAccessKey: Credentials.SecretAccessKey,
  sessionToken: Credentials.SessionToken,
};
seen.session = (await new STSClient({ ...once, credentials }).send(new GetCallerIdentityCommand({}))).Arn;
seen.microvms = Array.isArray(
  (await new LambdaMicrovmsClient({ ...once, credentials }).send(new ListMicrovmsCommand({}))).items,
);
seen.denied = await refusal(new IAMClient({ ...once, credentials }).send(new ListUsersCommand({})));
seen.deniedRole = await refusal(new IAMClient({ ...once, credentials }).send(new GetRoleCommand({ RoleName })));

seen.rate = (await new ServiceQuotasClient(once).send(
  new GetServiceQuotaCommand({ ServiceCode: "lambda", QuotaCode: "L-535CA9B6" }),
)).Quota.Value;
const cloudwatch = new CloudWatchClient(once);
seen.points = (await cloudwatch.send(new GetMetricStatisticsCommand({
  Namespace: "AWS/LambdaMicroVMs", MetricName: "CPUUtilization", Period: 60, Statistics: ["Average"],
  StartTime: new Date(0), EndTime: new Date(),
}))).Datapoints;
const ec2 = new EC2Client(once);
seen.subnets = (await ec2.send(new DescribeSubnetsCommand({}))).Subnets ?? [];
seen.notOffered = [
  await refusal(cloudwatch.send(new DescribeAlarmsCommand({}))),
  await refusal(ec2.send(new DescribeInstancesCommand({}))),
];

await iam.send(new DeleteRolePolicyCommand({ RoleName, PolicyName: "p" }));
await iam.send(new DeleteRoleCommand({ RoleName }));
seen.gone = await refusal(iam.send(new GetRoleCommand({ RoleName })));
console.log(JSON.stringify(seen));
