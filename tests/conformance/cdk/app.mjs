// A stack as users of CDK write it: its own buckets and groups, and an image whose code is an asset.
import { App, CfnOutput, RemovalPolicy, Stack } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as s3 from 'aws-cdk-lib/aws-s3';
import * as assets from 'aws-cdk-lib/aws-s3-assets';

const { STACK, CDK_DEFAULT_ACCOUNT: account, CDK_DEFAULT_REGION: region } = process.env;
const stack = new Stack(new App(), STACK, { env: { account, region } });

const bucket = new s3.Bucket(stack, 'Bucket', {
  blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL, encryption: s3.BucketEncryption.S3_MANAGED, enforceSSL: true,
  removalPolicy: RemovalPolicy.DESTROY, versioned: true,
});
const group = new logs.LogGroup(stack, 'Group', {
  retention: logs.RetentionDays.ONE_WEEK, removalPolicy: RemovalPolicy.DESTROY,
});
const role = new iam.Role(stack, 'Role', { assumedBy: new iam.ServicePrincipal('lambda.amazonaws.com') });
const code = new assets.Asset(stack, 'Code', { path: 'code' });
code.grantRead(role);
bucket.grantReadWrite(role);
group.grantWrite(role);

const image = new lambda.CfnMicrovmImage(stack, 'Image', {
  name: STACK,
  description: 'by cdk deploy',
  baseImageArn: `arn:aws:lambda:${region}:aws:microvm-image:debian12-1`,
  baseImageVersion: '1',
  buildRoleArn: role.roleArn,
  codeArtifact: { uri: code.s3ObjectUrl },
  cpuConfigurations: [{ architecture: 'ARM_64' }],
  resources: [{ minimumMemoryInMiB: 512 }],
  additionalOsCapabilities: [],
  egressNetworkConnectors: [],
  environmentVariables: [],
  hooks: {},
  logging: { cloudWatch: { logGroup: group.logGroupName } },
});
image.node.addDependency(role);
new logs.LogRetention(stack, 'Retention', {
  logGroupName: `/aws/lambda-microvms/${STACK}`, retention: logs.RetentionDays.TWO_WEEKS,
});
new CfnOutput(stack, 'Arn', { value: image.attrImageArn });
