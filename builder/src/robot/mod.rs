//! robot.yaml and the environment file: read, validated, and the choices that rcc makes.
