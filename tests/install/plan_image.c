/* A function that takes the place of xq_plan_create in a program that is compiled with
 * -Dxq_plan_create=create_or_load. With MAKES_IMAGE, it makes the plan and writes its image to $PLAN_IMAGE.
 * Without MAKES_IMAGE, it loads the plan from $PLAN_IMAGE, which libxqrt can do. So one machine compiles a
 * plan, and the same program runs it on another machine. */
#include <xq/xq.h>

#include <stdio.h>
#include <stdlib.h>

static void fail(const char *what)
{
    fprintf(stderr, "plan_image: %s\n", what);
    exit(1);
}

static FILE *image_file(const char *mode)
{
    const char *path = getenv("PLAN_IMAGE");
    FILE *file = path ? fopen(path, mode) : NULL;
    if (!file)
        fail("PLAN_IMAGE cannot be opened");
    return file;
}

xq_status create_or_load(xq_context *context, const xq_plan_options *options, xq_plan **plan);

#ifdef MAKES_IMAGE
xq_status create_or_load(xq_context *context, const xq_plan_options *options, xq_plan **plan)
{
    size_t bytes = 0;
    xq_status status = xq_plan_create(context, options, plan);
    if (status != XQ_OK)
        return status;
    if (xq_plan_save(*plan, NULL, 0, &bytes) != XQ_OK)
        fail("xq_plan_save");
    void *image = malloc(bytes);
    if (!image || xq_plan_save(*plan, image, bytes, &bytes) != XQ_OK)
        fail("xq_plan_save");
    FILE *file = image_file("wb");
    if (fwrite(image, 1, bytes, file) != bytes || fclose(file) != 0)
        fail("PLAN_IMAGE cannot be written");
    free(image);
    return XQ_OK;
}
#else
xq_status create_or_load(xq_context *context, const xq_plan_options *options, xq_plan **plan)
{
    static char image[16 << 20];
    FILE *file = image_file("rb");
    size_t bytes = fread(image, 1, sizeof image, file);
    fclose(file);
    (void)options;
    return xq_plan_load(context, image, bytes, plan);
}
#endif
